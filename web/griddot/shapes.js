/**
 * Shapes on a picture: dots, boxes and brush strokes. Nothing here knows of the page.
 *
 * The limits are those of vlm/tokens/shapes.py, which has the last word when the workflow is queued.
 */
export const MAX_SHAPES = 1000
export const MAX_POINTS = 2000 // of all strokes of a picture
export const LIMITS = {
  x: [0, 1],
  y: [0, 1],
  x0: [0, 1],
  y0: [0, 1],
  x1: [0, 1],
  y1: [0, 1],
  radius: [0.005, 100],
  strength: [-1, 1],
}
/** Numbers of a shape, by its kind; a stroke has `points` beside them. */
export const FIELDS = {
  dot: ['x', 'y', 'radius', 'strength'],
  box: ['x0', 'y0', 'x1', 'y1', 'strength'],
  stroke: ['radius', 'strength'],
}
export const KINDS = Object.keys(FIELDS) // in the order in which they are written
const NEW = {
  dot: { x: 0.5, y: 0.5, radius: 0.3, strength: 1 },
  box: { x0: 0.25, y0: 0.25, x1: 0.75, y1: 0.75, strength: 1 },
  stroke: { points: [[0.5, 0.5]], radius: 0.1, strength: 1 },
}

const DIGITS = 1000 // three digits are kept: about a pixel
const FINE = { below: 0.1, digits: 10000 } // a small radius: rounded to three, a step of 6 % is none
const LEAST_SIDE = 0.005 // of a box
const SIDES = [
  ['x0', 'x1'],
  ['y0', 'y1'],
]

export function kindOf(shape) {
  if ('points' in shape) return 'stroke'
  return 'x0' in shape ? 'box' : 'dot'
}

/**
 * A new shape of a kind: with these values, as large and strong as the last of its kind, in the
 * middle where nothing says where.
 */
export function made(kind, values = {}, last = {}) {
  const { radius, strength } = { ...NEW[kind], ...last }
  const like = kind === 'box' ? { strength } : { radius, strength }
  const points = values.points && { points: values.points.map(roundedPoint) }
  return changed({ ...NEW[kind], ...like, ...points }, values)
}

export function roundedPoint([x, y]) {
  return [rounded('x', x), rounded('y', y)]
}

function rounded(name, value) {
  const [low, high] = LIMITS[name]
  const cut = Math.min(high, Math.max(low, value))
  const digits = name === 'radius' && cut < FINE.below ? FINE.digits : DIGITS
  return Math.round(cut * digits) / digits
}

/** A shape with other values, cut to what they may be; what its kind lacks is left out. */
export function changed(shape, values) {
  const kind = kindOf(shape)
  const given = Object.entries(values).filter(([name]) => FIELDS[kind].includes(name))
  const cut = given.map(([name, value]) => [name, rounded(name, value)])
  const next = { ...shape, ...Object.fromEntries(cut) }
  return kind === 'box' ? withInside(next, values) : next
}

/** A box whose sides stay apart where one of them was set; the other gives way at the edge alone. */
function withInside(box, set) {
  const next = { ...box }
  for (const [low, high] of SIDES) {
    if (!(low in set || high in set) || next[high] - next[low] >= LEAST_SIDE) continue
    const start = high in set ? next[low] : next[high] - LEAST_SIDE
    next[low] = rounded(low, Math.min(start, 1 - LEAST_SIDE))
    next[high] = rounded(high, next[low] + LEAST_SIDE)
  }
  return next
}

/** What a shape is held by: a dot's centre, the middle of a box, where a stroke begins. */
export function anchorOf(shape) {
  const kind = kindOf(shape)
  if (kind === 'stroke') return { x: shape.points[0][0], y: shape.points[0][1] }
  if (kind === 'dot') return { x: shape.x, y: shape.y }
  return { x: (shape.x0 + shape.x1) / 2, y: (shape.y0 + shape.y1) / 2 }
}

/** A shape with its anchor elsewhere, as large as before; all of it stays on the picture. */
export function placed(shape, x, y) {
  const kind = kindOf(shape)
  if (kind === 'dot') return changed(shape, { x, y })
  const anchor = anchorOf(shape)
  const corners = [
    [shape.x0, shape.y0],
    [shape.x1, shape.y1],
  ]
  const points = kind === 'box' ? corners : shape.points
  const by = [shift(points, 0, x - anchor.x), shift(points, 1, y - anchor.y)]
  const moved = points.map((at) => roundedPoint([at[0] + by[0], at[1] + by[1]]))
  if (kind === 'stroke') return { ...shape, points: moved }
  const [[x0, y0], [x1, y1]] = moved
  return changed(shape, { x0, y0, x1, y1 })
}

function shift(points, axis, by) {
  const along = points.map((point) => point[axis])
  return Math.min(1 - Math.max(...along), Math.max(-Math.min(...along), by))
}

/** A larger or smaller shape: its radius, or a box's sides, around the same middle. */
export function grown(shape, factor) {
  if (kindOf(shape) !== 'box') return changed(shape, { radius: shape.radius * factor })
  const { x, y } = anchorOf(shape)
  const [across, down] = [(shape.x1 - shape.x0) / 2, (shape.y1 - shape.y0) / 2]
  return changed(shape, {
    x0: x - across * factor,
    y0: y - down * factor,
    x1: x + across * factor,
    y1: y + down * factor,
  })
}

/** How many points the strokes among shapes have. */
export function countPoints(shapes) {
  return shapes.reduce((sum, shape) => sum + (shape.points?.length ?? 0), 0)
}
