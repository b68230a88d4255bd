/**
 * A new VLM Loader shows the model that suits the diffusion model: which one that is, the server says.
 *
 * It follows the `target` of what it is connected to for as long as nobody chose a model on it. What a
 * workflow, a paste or a file in API format says comes after this, and counts.
 */
import { app } from '../../scripts/app.js'

const LOADER = 'VLMCLoader'
const FITS = 'vlmc_fits'
const FIRST = 'z-image' // the target that other nodes begin with
const INPUT = 1 // of LiteGraph: which side of a link changed
let fits = {}
/** Loader: the model that this file gave it; nothing where a person or a workflow chose. */
const given = new WeakMap()

function readFits(definition) {
  fits = definition?.input?.required?.model?.[1]?.[FITS] ?? {}
}

const widgetOf = (node, name) => node.widgets?.find((widget) => widget.name === name)

/** Has a function of an object's run, and then another. */
function after(object, name, then) {
  const before = object[name]
  object[name] = function (...args) {
    const result = before?.apply(this, args)
    then(...args)
    return result
  }
}

function suit(loader, target) {
  const widget = widgetOf(loader, 'model')
  const best = fits[target]
  if (!best || !widget || given.get(loader) !== widget.value) return
  widget.value = best
  given.set(loader, best)
}

function watchLoader(node) {
  const widget = widgetOf(node, 'model')
  if (!widget) return
  given.set(node, widget.value)
  suit(node, FIRST)
  after(widget, 'callback', () => given.delete(node))
  after(node, 'onConfigure', () => given.delete(node))
}

function watchReader(node) {
  const target = widgetOf(node, 'target')
  const follow = () => {
    if (!node.graph || app.configuringGraph) return // a copy is made before it is put into a graph
    const slot = node.findInputSlot('model')
    const loader = slot < 0 ? null : node.getInputNode(slot)
    if (loader?.comfyClass === LOADER) suit(loader, target.value)
  }
  after(target, 'callback', follow)
  after(node, 'onConnectionsChange', (side, slot, connected) => {
    if (side === INPUT && connected && node.inputs[slot]?.name === 'model') follow()
  })
}

app.registerExtension({
  name: 'VLMConditioning.Fitting',
  beforeRegisterNodeDef(_, definition) {
    if (definition.name === LOADER) readFits(definition)
  },
  refreshComboInNodes(definitions) {
    readFits(definitions[LOADER])
  },
  nodeCreated(node) {
    if (node.comfyClass === LOADER) watchLoader(node)
    else if (node.comfyClass?.startsWith('VLMC') && widgetOf(node, 'target')) watchReader(node)
  },
})
