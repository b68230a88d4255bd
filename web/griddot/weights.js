/** The weights of a picture's tokens, by the formula of vlm/tokens/griddot.py. */

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
 * @param {{x, y, radius, strength}[]} dots
 * @param {'max'|'sum'|'screen'} combine
 * @param {number} floor weight of what no dot reaches
 * @param {number[]|null} mask one value per token, row by row
 * @returns {Float64Array} one weight per token, row by row
 */
export function radialMask(rows, cols, dots, combine, floor, mask = null) {
  const weights = new Float64Array(rows * cols).fill(1)
  if (!dots.length && !mask) return weights
  const positive = dots.filter((dot) => dot.strength >= 0)
  const negative = dots.filter((dot) => dot.strength < 0)
  for (let row = 0, at = 0; row < rows; row++)
    for (let col = 0; col < cols; col++, at++) {
      let drawn = mask && !positive.length ? 1 : 0
      const reach = (dot) => weightOf(dot, row, col, rows, cols)
      for (const dot of positive) drawn = joined(drawn, reach(dot), combine)
      let weight = floor + (1 - floor) * drawn * (mask ? mask[at] : 1)
      for (const dot of negative) weight *= 1 + reach(dot)
      weights[at] = Math.min(1, Math.max(0, weight))
    }
  return weights
}

function weightOf(dot, row, col, rows, cols) {
  const distance = Math.hypot(col - dot.x * cols, row - dot.y * rows)
  const reach = 1 - distance / (dot.radius * Math.min(rows, cols))
  return dot.strength * Math.min(1, Math.max(0, reach))
}

function joined(soFar, one, combine) {
  if (combine === 'max') return Math.max(soFar, one)
  return combine === 'sum' ? soFar + one : soFar + one - soFar * one
}
