/**
 * GridDot Mask's panel: registers the widget that holds the dots and shows them on the picture.
 *
 * The widget's value is one JSON string, so that a workflow, the API and a person write the same.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'
import { Panel } from './griddot/panel.js'
import { pictureOf, pictureOfTokens, picturesOfTokens, viewUrl } from './griddot/picture.js'
import { learn } from './words.js'

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

/** What the panel shows: read anew whenever something may have changed. */
function surroundings(node) {
  const imageNumber = Number(widgetValue(node, 'image_number', 0))
  const ran = lastRun(node)
  const fits = ran?.image === imageNumber ? ran : null
  const wired = isWired(node, 'image')
  const source = wired
    ? pictureOf(node, 'image', app.rootGraph, api)
    : pictureOfTokens(node, imageNumber, app.rootGraph, api)
  const shown = source ?? (wired && fits?.picture ? viewUrl(fits.picture, api) : null)
  return {
    picture: shown,
    grid: fits && { rows: fits.rows, cols: fits.cols },
    mask: isWired(node, 'mask') ? (fits?.mask ?? null) : null,
    maskWired: isWired(node, 'mask'),
    combine: widgetValue(node, 'combine', 'max'),
    floor: Number(widgetValue(node, 'floor', 0)),
    number: imageNumber,
    pictures: picturesOfTokens(node, app.rootGraph),
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

function makeWidget(node, name, spec) {
  const panel = new Panel({
    surroundings: () => surroundings(node),
    rightful: () => rightful(panel.element, name),
    canvas: () => app.canvas,
    onPicture: (number) => choosePicture(node, number),
    onChange: (text) => {
      widget.callback?.(text)
      rememberForUndo(node)
    },
  })
  const widget = node.addDOMWidget(name, 'griddot', panel.element, {
    getValue: () => panel.value,
    setValue: (text) => {
      panel.value = text
    },
    getMinHeight: () => MIN_HEIGHT,
    hideOnZoom: false,
    hideInPanel: true, // the sidebar's list would draw an empty box in its place
    socketless: true,
  })
  // The sidebar gives the widgets that it shows its own width, and the graph then draws them so.
  Object.defineProperty(widget, 'width', { get: () => undefined, set: () => {} })
  widget.value = spec[1]?.default ?? ''
  return { widget, minWidth: MIN_WIDTH, minHeight: MIN_HEIGHT }
}

app.registerExtension({
  name: 'VLMConditioning.GridDot',
  init: () => learn(app.extensionManager.setting.get('Comfy.Locale'), api),
  getCustomWidgets: () => ({ VLMC_GRIDDOT: makeWidget }),
})
