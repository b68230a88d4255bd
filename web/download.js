/**
 * VLM Loader's `download`: labels of models that are not there yet, and a switch that no file turns on.
 *
 * A workflow holds the bare name of a model; only what the list shows says how much is missing. The
 * switch is neither written into a workflow nor read from one, so that opening what somebody else
 * made downloads nothing.
 */
import { app } from '../../scripts/app.js'

const NODE = 'VLMCLoader'
const LABELS = 'vlmc_labels'
let labels = {}

function readLabels(definition) {
  labels = definition?.input?.required?.model?.[1]?.[LABELS] ?? {}
}

function switchOf(node) {
  const type = node.comfyClass ?? node.type // only the first is there while a node is made
  return type === NODE ? node.widgets?.find((widget) => widget.name === 'download') : undefined
}

/** Every graph of the page: the one on top and the inside of its blocks. */
function allNodes() {
  const graphs = [app.rootGraph, ...(app.rootGraph?.subgraphs?.values() ?? [])]
  return graphs.flatMap((graph) => graph?.nodes ?? [])
}

function turnOff() {
  for (const node of allNodes()) {
    const widget = switchOf(node)
    if (!widget) continue
    widget.value = false
    const slot = node.findInputSlot('download') // which only a file can have given it
    if (slot >= 0) node.removeInput(slot)
  }
}

app.registerExtension({
  name: 'VLMConditioning.Download',
  beforeRegisterNodeDef(_, definition) {
    if (definition.name === NODE) readLabels(definition)
  },
  refreshComboInNodes(definitions) {
    readLabels(definitions[NODE])
  },
  nodeCreated(node) {
    const widget = switchOf(node)
    if (!widget) return
    widget.serialize = false
    const model = node.widgets.find((one) => one.name === 'model')
    model.options.getOptionLabel = (name) => labels[name] ?? name ?? ''
  },
  afterConfigureGraph: turnOff,
  setup() {
    // A file in API format sets widgets one by one, and tells extensions nothing.
    const load = app.loadApiJson
    app.loadApiJson = async function (...given) {
      const result = await load.apply(this, given)
      turnOff()
      return result
    }
  },
})
