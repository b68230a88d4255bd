/** Finds the picture that is wired to a node's input, without running anything. */

const SUBGRAPH_INPUT = -10 // origin of a link that comes from outside a subgraph
const BYPASSED = 4 // a node's mode
const MOST_HOPS = 100 // of a chain of links, so that a loop ends
const PICTURES = /^images\.image\d+$/ // inputs of the nodes that encode
// What the tokens of a picture come in by, through the nodes between.
const TOKENS = ['tokens', 'hidden_states', 'picture', 'conditioning']

/** Address of a picture that the server has: {filename, subfolder, type}. */
export function viewUrl({ filename, subfolder = '', type = 'input' }, api) {
  return api.apiURL(`/view?${new URLSearchParams({ filename, subfolder, type })}`)
}

/** Address of the picture at a node's input, through reroutes and subgraphs; null if unknown. */
export function pictureOf(node, inputName, root, api) {
  const slot = node.inputs?.findIndex((input) => input.name === inputName) ?? -1
  const source = slot < 0 ? null : sourceOf(node, slot, root, 0)
  if (!source) return null
  const shown = source.imgs?.[source.imageIndex ?? 0]?.src
  const file = loadedFile(source)
  // What a node shows may be older than what was chosen on it.
  if (shown && (!file || shown.includes(encodeURIComponent(file.filename)))) return shown
  return file ? viewUrl(file, api) : null
}

/**
 * Address of a picture by its number among those of the node that encoded the tokens; null if
 * unknown: a batch before it, a conversation's pictures or a CONDITIONING's own file.
 */
export function pictureOfTokens(node, number, root, api) {
  const { encoder, inputs } = encoded(node, root)
  return number < inputs.length ? pictureOf(encoder, inputs[number].name, root, api) : null
}

/** How many pictures the tokens hold, as far as their numbers are known. */
export function picturesOfTokens(node, root) {
  return encoded(node, root).inputs.length
}

/** The node that encoded the tokens, and its inputs with one known picture each, from the first. */
function encoded(node, root) {
  let [at, inputs] = [node, []]
  for (let hops = 0; at && hops < MOST_HOPS; hops++) {
    inputs = wiredTo(at, (name) => PICTURES.test(name))
    if (inputs.length) break
    const [through] = wiredTo(at, (name) => TOKENS.includes(name))
    at = through ? sourceOf(at, at.inputs.indexOf(through), root, 0) : null
  }
  if (!at || wiredTo(at, (name) => name === 'conversation').length) return { inputs: [] }
  const unknown = inputs.findIndex((input) => {
    const source = sourceOf(at, at.inputs.indexOf(input), root, 0)
    return !source || !loadedFile(source)
  })
  return { encoder: at, inputs: unknown < 0 ? inputs : inputs.slice(0, unknown) }
}

function wiredTo(node, isAsked) {
  return node.inputs?.filter((input) => isAsked(input.name) && input.link != null) ?? []
}

/** The file that a Load Image node names, such as "sub/cat.png [output]". */
function loadedFile(node) {
  if (!/^LoadImage/.test(node.type ?? '')) return null
  const value = node.widgets?.find((widget) => widget.name === 'image')?.value
  if (typeof value !== 'string' || !value) return null
  const [, path, type] = /^(.*?)(?: \[(\w+)\])?$/.exec(value)
  const cut = path.lastIndexOf('/')
  return { filename: path.slice(cut + 1), subfolder: path.slice(0, Math.max(0, cut)), type }
}

/** The node whose output arrives at an input; null where nothing is wired. */
function sourceOf(node, slot, root, hops) {
  const graph = node.graph
  const id = node.inputs?.[slot]?.link
  if (id == null || !graph || hops > MOST_HOPS) return null
  return originOf(graph, linkOf(graph, id), root, hops + 1)
}

function originOf(graph, link, root, hops) {
  if (!link || hops > MOST_HOPS) return null
  if (Number(link.origin_id) === SUBGRAPH_INPUT) {
    const outside = hostOf(root, graph)
    const name = graph.inputs?.[link.origin_slot]?.name
    const slot = outside?.inputs?.findIndex((input) => input.name === name) ?? -1
    return slot < 0 ? null : sourceOf(outside, slot, root, hops)
  }
  const node = graph.getNodeById(link.origin_id)
  if (!node) return null
  if (node.subgraph) {
    const id = node.subgraph.outputs?.[link.origin_slot]?.linkIds?.[0]
    return originOf(node.subgraph, linkOf(node.subgraph, id), root, hops + 1)
  }
  if (node.type === 'Reroute') return sourceOf(node, 0, root, hops)
  if (node.mode === BYPASSED) {
    const slot = node.inputs?.findIndex((input) => input.type === 'IMAGE') ?? -1
    return slot < 0 ? null : sourceOf(node, slot, root, hops)
  }
  return node
}

function linkOf(graph, id) {
  return graph.getLink?.(id) ?? graph.links?.get?.(id) ?? null
}

/** The node that stands for a subgraph in the graph around it. */
function hostOf(graph, subgraph) {
  for (const node of graph?.nodes ?? []) {
    if (node.subgraph === subgraph) return node
    const deeper = node.subgraph && hostOf(node.subgraph, subgraph)
    if (deeper) return deeper
  }
  return null
}
