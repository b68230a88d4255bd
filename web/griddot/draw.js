/** Draws the panel's picture, and says where things on it are. Lengths are CSS pixels. */
import { anchorOf, kindOf } from './shapes.js'

export const DOT_SIZE = 7
const HANDLE_SIZE = 5
const SHARPNESS = 2 // canvas pixels per CSS pixel, for screens and zoomed graphs
const BAND = 0.25 // how much of its colour a stroke's reach has
const DARKEST = 0.82 // how dark a token of weight 0 gets
const COLORS = { keep: '#4db4ff', take: '#ff6b5e', edge: '#ffffff', empty: '#6b6f76' }

/** Where the picture lies on the stage: as large as fits, centred. */
export function fit(stage, picture) {
  const scale = Math.min(stage.width / picture.width, stage.height / picture.height)
  const [width, height] = [picture.width * scale, picture.height * scale]
  return { left: (stage.width - width) / 2, top: (stage.height - height) / 2, width, height }
}

/** Where a place of the picture is, and the half axes of what a radius reaches from there. */
export function shapeOf({ x, y, radius }, box, grid) {
  const tokens = radius * Math.min(grid.rows, grid.cols)
  return {
    x: box.left + x * box.width,
    y: box.top + y * box.height,
    across: (tokens * box.width) / grid.cols,
    down: (tokens * box.height) / grid.rows,
  }
}

/** What a shape's radius is measured from, with that radius. */
export function middleOf(shape) {
  return { ...anchorOf(shape), radius: shape.radius ?? 0 }
}

/** Where the handles sit that size a shape, and the values each sets: a radius or a box's corner. */
export function handlesOf(shape, box, grid) {
  if (kindOf(shape) !== 'box') return [{ ...onTheRing(shape, box, grid), sets: ['radius'] }]
  return ['x0', 'x1'].flatMap((across) =>
    ['y0', 'y1'].map((down) => ({
      x: box.left + shape[across] * box.width,
      y: box.top + shape[down] * box.height,
      sets: [across, down],
    })),
  )
}

/** A place on the ring of a radius, kept on the picture. */
function onTheRing(shape, box, grid) {
  const { x, y, across, down } = shapeOf(middleOf(shape), box, grid)
  const right = box.left + box.width
  const bottom = box.top + box.height
  if (x + across <= right) return { x: x + across, y }
  if (x - across >= box.left) return { x: x - across, y }
  if (y + down <= bottom) return { x, y: y + down }
  if (y - down >= box.top) return { x, y: y - down }
  const onTheLeft = x - box.left < box.width / 2
  return { x: onTheLeft ? right - HANDLE_SIZE : box.left + HANDLE_SIZE, y }
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {{stage, box, grid, image, weights, dots, selected}} view
 */
export function paint(canvas, view) {
  const { stage, box, image } = view
  canvas.width = Math.max(1, Math.round(stage.width * SHARPNESS))
  canvas.height = Math.max(1, Math.round(stage.height * SHARPNESS))
  const pen = canvas.getContext('2d')
  pen.scale(SHARPNESS, SHARPNESS)
  if (image) pen.drawImage(image, box.left, box.top, box.width, box.height)
  else {
    pen.fillStyle = COLORS.empty
    pen.fillRect(box.left, box.top, box.width, box.height)
  }
  paintWeights(pen, view)
  paintGrid(pen, view)
  pen.save()
  pen.beginPath()
  pen.rect(box.left, box.top, box.width, box.height)
  pen.clip()
  view.dots.forEach((dot, index) => index !== view.selected && paintReach(pen, dot, view, false))
  if (view.dots[view.selected]) paintReach(pen, view.dots[view.selected], view, true)
  pen.restore()
  view.dots.forEach((dot, index) => paintAnchor(pen, dot, view, index === view.selected))
  if (view.dots[view.selected]) paintHandles(pen, view.dots[view.selected], view)
}

function paintWeights(pen, { box, grid, weights }) {
  const [width, height] = [box.width / grid.cols, box.height / grid.rows]
  weights.forEach((weight, at) => {
    if (weight >= 1) return
    const [row, col] = [Math.floor(at / grid.cols), at % grid.cols]
    pen.fillStyle = `rgba(8, 10, 14, ${(1 - weight) * DARKEST})`
    pen.fillRect(box.left + col * width, box.top + row * height, width, height)
  })
}

function paintGrid(pen, { box, grid }) {
  pen.beginPath()
  for (let col = 0; col <= grid.cols; col++) {
    const x = box.left + (col * box.width) / grid.cols
    pen.moveTo(x, box.top)
    pen.lineTo(x, box.top + box.height)
  }
  for (let row = 0; row <= grid.rows; row++) {
    const y = box.top + (row * box.height) / grid.rows
    pen.moveTo(box.left, y)
    pen.lineTo(box.left + box.width, y)
  }
  pen.strokeStyle = 'rgba(255, 255, 255, 0.16)'
  pen.lineWidth = 0.5
  pen.stroke()
}

function colorOf(shape) {
  return shape.strength < 0 ? COLORS.take : COLORS.keep
}

/** A dot's ring, a box's sides, or a stroke's line with the band that it reaches. */
function paintReach(pen, shape, { box, grid }, selected) {
  const { x, y, across, down } = shapeOf(middleOf(shape), box, grid)
  const kind = kindOf(shape)
  pen.beginPath()
  if (kind === 'dot') pen.ellipse(x, y, across, down, 0, 0, 2 * Math.PI)
  else if (kind === 'box') {
    const [width, height] = [shape.x1 - shape.x0, shape.y1 - shape.y0]
    const [left, top] = [box.left + shape.x0 * box.width, box.top + shape.y0 * box.height]
    pen.rect(left, top, width * box.width, height * box.height)
  } else pathOf(pen, shape, box)
  pen.strokeStyle = colorOf(shape)
  if (kind === 'stroke') {
    pen.lineCap = pen.lineJoin = 'round'
    pen.globalAlpha = BAND
    pen.lineWidth = across + down
    pen.stroke()
    pen.globalAlpha = 1
  }
  pen.setLineDash(selected ? [] : [4, 4])
  pen.lineWidth = selected ? 2 : 1
  pen.stroke()
  pen.setLineDash([])
}

function pathOf(pen, { points }, box) {
  const [[left, top]] = points
  pen.moveTo(box.left + left * box.width, box.top + top * box.height)
  for (const [x, y] of points) pen.lineTo(box.left + x * box.width, box.top + y * box.height)
}

/** What a shape is held by: round for a dot and where a stroke begins, square in a box. */
function paintAnchor(pen, shape, { box, grid }, selected) {
  const { x, y } = shapeOf(middleOf(shape), box, grid)
  const size = selected ? DOT_SIZE : DOT_SIZE - 2
  pen.beginPath()
  if (kindOf(shape) === 'box') pen.rect(x - size, y - size, 2 * size, 2 * size)
  else pen.arc(x, y, size, 0, 2 * Math.PI)
  pen.fillStyle = colorOf(shape)
  pen.fill()
  pen.strokeStyle = COLORS.edge
  pen.lineWidth = selected ? 2.5 : 1
  pen.stroke()
}

function paintHandles(pen, shape, { box, grid }) {
  const [half, side] = [HANDLE_SIZE, 2 * HANDLE_SIZE]
  for (const { x, y } of handlesOf(shape, box, grid)) {
    pen.fillStyle = COLORS.edge
    pen.fillRect(x - half, y - half, side, side)
    pen.strokeStyle = colorOf(shape)
    pen.lineWidth = 2
    pen.strokeRect(x - half, y - half, side, side)
  }
}
