/** Which key does what in the panel. */

const STEP = 0.01 // of the picture's width or height
const LARGE_STEP = 0.05
const SIZE_STEP = 1.06

const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }

/**
 * @param {KeyboardEvent} event
 * @param {boolean} typing whether a number field has the focus
 * @param {boolean} onButton whether a button has it
 * @returns {{name?: string, values?: any}|null} what Panel.act takes; {} = nothing, but keep the
 *   key from the page, which would delete the node; null = not ours
 */
export function keyAction(event, typing, onButton) {
  if (event.ctrlKey || event.metaKey) return travel(event)
  if (event.altKey || typing) return null
  const { key } = event
  if (onButton && (key === 'Enter' || key === ' ')) return null
  if (key in ARROWS) {
    const step = event.shiftKey ? LARGE_STEP : STEP
    return { name: 'move', values: ARROWS[key].map((way) => way * step) }
  }
  switch (key.toLowerCase()) {
    case 'delete':
    case 'backspace':
      return { name: 'remove' }
    case '+':
    case '=':
      return { name: 'grow', values: SIZE_STEP }
    case '-':
    case '_':
      return { name: 'grow', values: 1 / SIZE_STEP }
    case 'enter':
      return { name: 'add' }
    case 'n':
      return { name: 'select', values: 1 }
    case 'p':
      return { name: 'select', values: -1 }
    case 'd':
      return { name: 'take', values: 'dot' }
    case 'b':
      return { name: 'take', values: 'stroke' }
    case 'r':
      return { name: 'take', values: 'box' }
    case 'l':
      return { name: 'large' }
    default:
      return null
  }
}

function travel(event) {
  const key = event.key.toLowerCase()
  if (key === 'z') return { name: event.shiftKey ? 'redo' : 'undo' }
  return key === 'y' ? { name: 'redo' } : null
}
