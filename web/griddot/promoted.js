/** The panel of a node in a subgraph, on the subgraph's own node where its dots are promoted. */

/**
 * Has a subgraph's node show promoted panels.
 *
 * The page keeps a promoted value for each such node, but makes an element for fields of text
 * alone: `createPromotedHostWidget` is its hook for others (frontend 1.49). Where a page has no
 * such hook, a promoted panel is what the page makes of it.
 *
 * @param {object} host any node
 * @param {string} type of the widgets that are panels
 * @param {(node, name: string, of, stored: {value}) => object} addPanel adds one to a node
 * @param {number} minWidth of a node with a panel
 */
export function showPromoted(host, type, addPanel, minWidth) {
  const theirs = host.createPromotedHostWidget
  if (!theirs || !host._extraWidgets || !host._projectPromotedWidget) return
  host.createPromotedHostWidget = function (input, id, source) {
    // Before it is in its graph, a node is asked under an id that it does not keep.
    const settled = host.graph?.getNodeById(host.id) === host
    if (source.type !== type || !settled) return theirs.call(host, input, id, source)
    const stored = host._projectPromotedWidget(input)
    const widget = addPanel(host, input.name, source.node, stored)
    // It stands for the input, among whose widgets the page finds it.
    host._extraWidgets.splice(host._extraWidgets.indexOf(widget), 1)
    widget.label = input.label
    queueMicrotask(() => makeRoom(host, minWidth)) // once it counts among the node's widgets
    return widget
  }
}

function makeRoom(host, minWidth) {
  const [width, height] = host.size
  const needed = [Math.max(width, minWidth), Math.max(height, host.computeSize()[1])]
  if (needed[0] > width || needed[1] > height) host.setSize(needed)
}
