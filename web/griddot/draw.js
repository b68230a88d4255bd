/** Draws the panel's picture, and says where things on it are. Lengths are CSS pixels. */

export const DOT_SIZE = 7
const HANDLE_SIZE = 5
const SHARPNESS = 2 // canvas pixels per CSS pixel, for screens and zoomed graphs
const DARKEST = 0.82 // how dark a token of weight 0 gets
const COLORS = { keep: '#4db4ff', take: '#ff6b5e', edge: '#ffffff', empty: '#6b6f76' }

/** Where the picture lies on the stage: as large as fits, centred. */
export function fit(stage, picture) {
  const scale = Math.min(stage.width / picture.width, stage.height / picture.height)
  const [width, height] = [picture.width * scale, picture.height * scale]
  return { left: (stage.width - width) / 2, top: (stage.height - height) / 2, width, height }
}

/** A dot's centre and the half axes of what it reaches. */
export function shapeOf(dot, box, grid) {
  const tokens = dot.radius * Math.min(grid.rows, grid.cols)
  return {
    x: box.left + dot.x * box.width,
    y: box.top + dot.y * box.height,
    across: (tokens * box.width) / grid.cols,
    down: (tokens * box.height) / grid.rows,
  }
}

/** Where the handle sits that sets the radius: on the ring, kept on the picture. */
export function handleOf(dot, box, grid) {
  const { x, y, across, down } = shapeOf(dot, box, grid)
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
  view.dots.forEach((dot, index) => index !== view.selected && paintRing(pen, dot, view, false))
  if (view.dots[view.selected]) paintRing(pen, view.dots[view.selected], view, true)
  pen.restore()
  view.dots.forEach((dot, index) => paintDot(pen, dot, view, index === view.selected))
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

function colorOf(dot) {
  return dot.strength < 0 ? COLORS.take : COLORS.keep
}

function paintRing(pen, dot, { box, grid }, selected) {
  const { x, y, across, down } = shapeOf(dot, box, grid)
  pen.beginPath()
  pen.ellipse(x, y, across, down, 0, 0, 2 * Math.PI)
  pen.setLineDash(selected ? [] : [4, 4])
  pen.strokeStyle = colorOf(dot)
  pen.lineWidth = selected ? 2 : 1
  pen.stroke()
  pen.setLineDash([])
}

function paintDot(pen, dot, { box, grid }, selected) {
  const { x, y } = shapeOf(dot, box, grid)
  pen.beginPath()
  pen.arc(x, y, selected ? DOT_SIZE : DOT_SIZE - 2, 0, 2 * Math.PI)
  pen.fillStyle = colorOf(dot)
  pen.fill()
  pen.strokeStyle = COLORS.edge
  pen.lineWidth = selected ? 2.5 : 1
  pen.stroke()
  if (!selected) return
  const handle = handleOf(dot, box, grid)
  pen.fillStyle = COLORS.edge
  pen.fillRect(handle.x - HANDLE_SIZE, handle.y - HANDLE_SIZE, 2 * HANDLE_SIZE, 2 * HANDLE_SIZE)
  pen.strokeStyle = colorOf(dot)
  pen.lineWidth = 2
  pen.strokeRect(handle.x - HANDLE_SIZE, handle.y - HANDLE_SIZE, 2 * HANDLE_SIZE, 2 * HANDLE_SIZE)
}
