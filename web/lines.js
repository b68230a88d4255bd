/**
 * The line of text on a node: it stays when the run is over, and breaks at words.
 *
 * The page shows what a node says, and takes it away when the run ends (frontend 1.58) or another
 * graph is opened. What was said last is kept here for as long as the node is there, and said once
 * more in the page's own way, also to a node in a block that is opened after the run.
 *
 * The page breaks the line anywhere, inside words; the rule is for that widget alone, and a name
 * without blanks, such as a path, still breaks where it must.
 */
import { app } from '../../scripts/app.js'
import { api } from '../../scripts/api.js'

const SAID = 'progress_text'
const WIDGET = '$$node-text-preview' // the page's, with the line
const STYLE = '.text-xs .flex-1.break-all { word-break: normal; overflow-wrap: anywhere; }'
/** Node: what it said last. */
const lines = new WeakMap()
/** Widgets whose end is watched. */
const watched = new WeakSet()

/** The node that an execution id names: "9:3" is number 3 in the block that is number 9. */
function nodeOf(id) {
  const path = String(id).split(':')
  const last = path.pop()
  let graph = app.rootGraph
  for (const block of path) graph = graph?.getNodeById(block)?.subgraph
  return graph?.getNodeById(last)
}

const shownOn = (node) => node.widgets?.find((widget) => widget.name === WIDGET)

/** Says a node's line once more, to the page and to nobody else. */
function repeat(node) {
  const open = node.graph && node.graph === app.canvas.graph
  if (!open || !lines.has(node) || shownOn(node)) return
  api.dispatchCustomEvent(SAID, { nodeId: String(node.id), text: lines.get(node), node })
}

function watch(node) {
  const widget = shownOn(node)
  if (!widget || watched.has(widget)) return
  watched.add(widget)
  const before = widget.onRemove
  widget.onRemove = function (...args) {
    setTimeout(() => repeat(node)) // a node that was removed is in no graph by then
    return before?.apply(this, args)
  }
}

function keep(node, line) {
  if (!node?.comfyClass?.startsWith('VLMC')) return
  lines.set(node, line)
  setTimeout(() => {
    repeat(node) // where a short run is over by now
    watch(node)
  })
}

app.registerExtension({
  name: 'VLMConditioning.Lines',
  setup() {
    const style = document.createElement('style')
    style.textContent = STYLE
    document.head.append(style)
    api.addEventListener(SAID, ({ detail }) => {
      if (detail.node) setTimeout(() => watch(detail.node)) // once the page has shown it
      else keep(nodeOf(detail.nodeId), detail.text)
    })
    app.canvas.canvas.addEventListener('litegraph:set-graph', () => {
      setTimeout(() => app.canvas.graph?.nodes.forEach(repeat)) // once all of it is there
    })
  },
})
