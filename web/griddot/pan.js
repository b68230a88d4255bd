/** The middle button over an element: it moves the graph, as it does beside the element. */

const MIDDLE = { button: 1, held: 4 }

/**
 * @param {Element} element
 * @param {() => object} canvas LiteGraph's canvas; asked each time, as the page makes it late
 */
export function panOver(element, canvas) {
  const hand = (name, concerns, process) =>
    element.addEventListener(name, (event) => {
      if (!concerns(event)) return
      event.stopPropagation() // the node around would hand it on a second time
      process(event)
    })
  const isMiddle = (event) => event.button === MIDDLE.button
  const isHeld = (event) => event.buttons & MIDDLE.held
  hand('pointerdown', isMiddle, (event) => canvas().processMouseDown(event))
  hand('pointermove', isHeld, (event) => canvas().processMouseMove(event))
  hand('pointerup', isMiddle, (event) => canvas().processMouseUp(event))
}
