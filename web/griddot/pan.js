/** The middle button moves the graph, also where it is pressed on an element that lies over it. */

const MIDDLE = 1
const MIDDLE_HELD = 4 // of `buttons`

/**
 * @param {Element} element lies over the canvas
 * @param {() => object} canvas the page's LGraphCanvas
 */
export function panWith(element, canvas) {
  // The Vue renderer's nodes hand the middle button to the canvas themselves; a dialog hides it.
  const ours = () => !element.closest('[data-node-id], dialog')
  element.addEventListener('pointerdown', (event) => {
    if (event.button === MIDDLE && ours()) canvas().processMouseDown(event)
  })
  element.addEventListener('pointermove', (event) => {
    if (event.buttons & MIDDLE_HELD && ours()) canvas().processMouseMove(event)
  })
  element.addEventListener('pointerup', (event) => {
    if (event.button === MIDDLE && ours()) canvas().processMouseUp(event)
  })
}
