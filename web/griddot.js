/**
 * GridDot Mask's panel: registers the widget that holds the dots and shows them on the picture.
 *
 * The widget's value is one JSON string, so that a workflow, the API and a person write the same.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { Panel } from './griddot/panel.js'
import { pictureOf, pictureOfTokens, picturesOfTokens, viewUrl } from './griddot/picture.js'
import { showPromoted } from './griddot/promoted.js'
import { learn } from './words.js'

const TYPE = 'griddot' // of the widget
const MIN_WIDTH = 340
const MIN_HEIGHT = 420

function widgetValue(node, name, otherwise) {
  return node.widgets?.find((widget) => widget.name === name)?.value ?? otherwise
}

function isWired(node, name) {
  return node.inputs?.some((input) => input.name === name && input.link != null) ?? false
}

/** What this node's last run told the page, also after its tab was left and opened again. */
function lastRun(node) {
  const inner = node.graph && node.graph !== app.rootGraph
  const key = inner ? `${node.graph.id}:${node.id}` : node.id
  return app.nodeOutputs?.[key]?.griddot?.[0] ?? null
}

/**
 * What the panel shows: read anew whenever something may have changed.
 * @param {object} node GridDot Mask
 * @param {object|null} host the one of its subgraph's nodes that shows the panel
 */
function surroundings(node, host) {
  // Of several nodes of one subgraph the first is taken for what is wired outside.
  const root = host ? { nodes: [host, ...(app.rootGraph?.nodes ?? [])] } : app.rootGraph
  const imageNumber = Number(widgetValue(node, 'image_number', 0))
  const ran = lastRun(node)
  const fits = ran?.image === imageNumber ? ran : null
  const wired = isWired(node, 'image')
  const source = wired
    ? pictureOf(node, 'image', root, api)
    : pictureOfTokens(node, imageNumber, root, api)
  const shown = source ?? (wired && fits?.picture ? viewUrl(fits.picture, api) : null)
  return {
    picture: shown,
    grid: fits && { rows: fits.rows, cols: fits.cols },
    mask: isWired(node, 'mask') ? (fits?.mask ?? null) : null,
    maskWired: isWired(node, 'mask'),
    combine: widgetValue(node, 'combine', 'max'),
    floor: Number(widgetValue(node, 'floor', 0)),
    number: imageNumber,
    outside: !host && isWired(node, 'dots'),
    pictures: picturesOfTokens(node, root),
  }
}

/** Has the dots be those of another picture. */
function choosePicture(node, number) {
  const widget = node.widgets?.find((each) => each.name === 'image_number')
  if (!widget) return
  widget.value = number
  widget.callback?.(number)
  rememberForUndo(node)
}

/**
 * The panel that should be where this one is shown, or null where that is this one.
 *
 * The Vue renderer goes on showing the element that it first found under a node's id, also when
 * undo or another workflow brought a new node with that id.
 */
function rightful(element, name) {
  const id = element.closest('[data-node-id]')?.dataset.nodeId
  const node = id === undefined ? null : app.canvas?.graph?.getNodeById(id)
  const panel = node?.widgets?.find((widget) => widget.name === name)?.element
  return panel && panel !== element ? panel : null
}

/** Lets the graph's own undo know of a change; other edits tell it by themselves. */
function rememberForUndo(node) {
  node.graph?.setDirtyCanvas?.(true, true)
  const tracker = app.extensionManager?.workflow?.activeWorkflow?.changeTracker
  const capture = tracker?.captureCanvasState ?? tracker?.checkState
  capture?.call(tracker)
}

/**
 * Puts a panel on a node.
 * @param {object} node what shows it
 * @param {string} name of the widget there
 * @param {object} of the GridDot Mask whose picture it is
 * @param {{value: string}|null} stored where the page keeps the value; null = the panel has it
 */
function addPanel(node, name, of, stored = null) {
  const panel = new Panel({
    surroundings: () => surroundings(of, stored && node),
    rightful: () => rightful(panel.element, name),
    stored: () => stored?.value,
    canvas: () => app.canvas,
    onPicture: (number) => choosePicture(of, number),
    onChange: (text) => {
      if (stored) stored.value = text
      widget.callback?.(text)
      rememberForUndo(node)
    },
  })
  const widget = node.addDOMWidget(name, TYPE, panel.element, {
    getValue: () => (stored ? stored.value : panel.value),
    setValue: (text) => {
      if (stored) stored.value = text
      panel.value = text
    },
    getMinHeight: () => MIN_HEIGHT,
    hideOnZoom: false,
    hideInPanel: true, // the sidebar's list would draw an empty box in its place
  })
  // The sidebar gives the widgets that it shows its own width, and the graph then draws them so.
  Object.defineProperty(widget, 'width', { get: () => undefined, set: () => {} })
  return widget
}

function makeWidget(node, name, spec) {
  const widget = addPanel(node, name, node)
  widget.value = spec[1]?.default ?? ''
  return { widget, minWidth: MIN_WIDTH, minHeight: MIN_HEIGHT }
}

app.registerExtension({
  name: 'VLMConditioning.GridDot',
  init: () => learn(app.extensionManager.setting.get('Comfy.Locale'), api),
  getCustomWidgets: () => ({ VLMC_GRIDDOT: makeWidget }),
  nodeCreated: (node) => showPromoted(node, TYPE, addPanel, MIN_WIDTH),
})
