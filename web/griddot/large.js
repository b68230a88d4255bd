/** The large editor: the panel itself, in a dialog over the page, and back in its place. */
import { say } from '../words.js'
import { leaveUndoTo, make } from './elements.js'

const OF_THE_GRAPH = ['keydown', 'copy', 'cut', 'paste'] // what the page does to its nodes

/**
 * @param {Element} panel goes into the dialog until that is closed
 * @param {() => void} onClose called when it is back in its place
 * @returns {HTMLDialogElement} open
 */
export function openLarge(panel, onClose) {
  const place = document.createComment('griddot')
  const dialog = make('dialog', { class: 'griddot-large', 'aria-label': say('GridDot, large') })
  dialog.tabIndex = -1 // a click beside everything leaves the keys here
  leaveUndoTo(dialog)
  for (const name of OF_THE_GRAPH)
    dialog.addEventListener(name, (event) => event.stopPropagation())
  dialog.addEventListener('close', () => {
    // The page may have taken the panel meanwhile, or the node from the graph.
    if (dialog.contains(panel)) place.replaceWith(panel)
    place.remove()
    dialog.remove()
    onClose()
  })
  panel.replaceWith(place)
  dialog.append(panel)
  document.body.append(dialog)
  dialog.showModal()
  return dialog
}
