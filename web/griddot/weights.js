/** The weights of a picture's tokens, by the formula of vlm/tokens/griddot.py. */
import { kindOf } from './shapes.js'

const MEGAPIXEL = 1024 * 1024
const TOKEN = 32 // pixels on a side, of Qwen3-VL

/**
 * The token grid that a picture of this size probably gets: at most a megapixel, 32 pixels a token.
 * The real one depends on the VLM and its pixel budget, and comes with the node's first run.
 */
export function estimateGrid(width, height) {
  const scale = Math.min(1, Math.sqrt(MEGAPIXEL / (width * height)))
  const tokens = (side) => Math.max(1, Math.round((side * scale) / TOKEN))
  return { rows: tokens(height), cols: tokens(width) }
}

/**
 * @param {number} rows, cols the token grid
 * @param {object[]} dots dots, boxes and strokes
 * @param {'max'|'sum'|'screen'} combine
 * @param {number} floor weight of what no shape reaches
 * @param {number[]|null} mask one value per token, row by row
 * @returns {Float64Array} one weight per token, row by row
 */
export function radialMask(rows, cols, dots, combine, floor, mask = null) {
  const weights = new Float64Array(rows * cols).fill(1)
  if (!dots.length && !mask) return weights
  const reaches = dots.map((shape) => ({
    strength: shape.strength,
    at: reachOf(shape, rows, cols),
  }))
  const positive = reaches.filter(({ strength }) => strength >= 0)
  const negative = reaches.filter(({ strength }) => strength < 0)
  for (let row = 0, at = 0; row < rows; row++)
    for (let col = 0; col < cols; col++, at++) {
      let drawn = mask && !positive.length ? 1 : 0
      for (const one of positive) drawn = joined(drawn, one.strength * one.at(row, col), combine)
      let weight = floor + (1 - floor) * drawn * (mask ? mask[at] : 1)
      for (const one of negative) weight *= 1 + one.strength * one.at(row, col)
      weights[at] = Math.min(1, Math.max(0, weight))
    }
  return weights
}

/** How far a shape counts at a token, 0 to 1: a function of its row and column. */
function reachOf(shape, rows, cols) {
  if (kindOf(shape) === 'box')
    return (row, col) =>
      share(row, shape.y0 * rows, shape.y1 * rows) * share(col, shape.x0 * cols, shape.x1 * cols)
  const points = (shape.points ?? [[shape.x, shape.y]]).map(([x, y]) => [x * cols, y * rows])
  const tokens = shape.radius * Math.min(rows, cols)
  const ways = points.slice(1).map((end, at) => way(points[at], end))
  return (row, col) => {
    let square = (col - points[0][0]) ** 2 + (row - points[0][1]) ** 2
    for (const squareTo of ways) square = Math.min(square, squareTo(col, row))
    return Math.min(1, Math.max(0, 1 - Math.sqrt(square) / tokens))
  }
}

/** How much of the cell from `start` lies between two places. */
function share(start, low, high) {
  return Math.min(1, Math.max(0, Math.min(start + 1, high) - Math.max(start, low)))
}

/** The square of the distance from a straight way, as a function of a place. */
function way([x0, y0], [x1, y1]) {
  const [across, down] = [x1 - x0, y1 - y0]
  const square = across ** 2 + down ** 2
  return (x, y) => {
    const along = square ? ((x - x0) * across + (y - y0) * down) / square : 0
    const part = Math.min(1, Math.max(0, along))
    return (x - x0 - part * across) ** 2 + (y - y0 - part * down) ** 2
  }
}

function joined(soFar, one, combine) {
  if (combine === 'max') return Math.max(soFar, one)
  return combine === 'sum' ? soFar + one : soFar + one - soFar * one
}
