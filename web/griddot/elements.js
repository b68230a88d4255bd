/** The panel's elements. */
import { say } from '../words.js'
import { FIELDS, LIMITS } from './shapes.js'
import { addStyle } from './style.js'
import { nameOf } from './text.js'

/** All numbers of all kinds of shapes, in the order in which they are shown. */
export const NUMBERS = Object.keys(LIMITS)
const STEPS = { radius: 0.05, strength: 0.1 }
const PLACE_STEP = 0.01
const fieldNames = () => ({
  x: say('x'),
  y: say('y'),
  x0: say('left'),
  y0: say('top'),
  x1: say('right'),
  y1: say('bottom'),
  radius: say('radius'),
  strength: say('strength'),
})
const fieldTitles = () => ({
  x: say('From the left edge, 0 to 1'),
  y: say('From the top edge, 0 to 1'),
  x0: say('From the left edge, 0 to 1'),
  y0: say('From the top edge, 0 to 1'),
  x1: say('From the left edge, 0 to 1'),
  y1: say('From the top edge, 0 to 1'),
  radius: say('Reach; 1 = the shorter side of the token grid'),
  strength: say('1 keeps, -1 takes away'),
})
const buttonLooks = () => ({
  presets: ['▾', say('Dots to begin with')],
  remove: ['✕', say('Remove what is selected (Delete)')],
  undo: ['↶', say('Undo (Ctrl+Z)')],
  redo: ['↷', say('Redo (Ctrl+Y)')],
  large: ['⤢', say('Large editor (L)')],
  close: [say('Close'), say('Close the large editor (L or Escape)')],
})
const toolLooks = () => ({
  dot: ['●', say('Dots (D)')],
  stroke: ['✎', say('Brush (B)')],
  box: ['▭', say('Box (R)')],
})
const help = () =>
  [
    say('Picture with dots. Click or Enter adds a dot, arrow keys move it.'),
    say('D, B and R take dots, the brush and the box.'),
    say('Plus and minus or the wheel set its size, Delete removes it.'),
    say('N and P go to the next and the one before, Ctrl+Z undoes.'),
    say('L opens the large editor and closes it.'),
  ].join(' ')

export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** @returns {{root, tabs, stage, canvas, labels, fields, buttons, tools, status}} */
export function build() {
  addStyle()
  const canvas = make('canvas', { 'aria-hidden': 'true' })
  const stage = make(
    'div',
    { class: 'griddot-stage', tabindex: '0', role: 'application', 'aria-label': help() },
    canvas,
  )
  leaveUndoTo(stage)
  const [names, titles] = [fieldNames(), fieldTitles()]
  const [fields, labels] = [{}, {}]
  for (const name of NUMBERS) {
    fields[name] = field(name)
    labels[name] = make('label', { title: titles[name] }, names[name], fields[name])
  }
  const [buttons, tools] = [made(buttonLooks()), made(toolLooks())]
  const choice = make('div', { class: 'griddot-row', role: 'group', 'aria-label': say('Tools') })
  choice.append(...Object.values(tools))
  const { presets, remove, undo, redo, large, close } = buttons
  const top = make('div', { class: 'griddot-row griddot-top' }, choice, undo, redo, large, close)
  const row = make('div', { class: 'griddot-row' }, ...Object.values(labels), presets, remove)
  const status = make('div', { class: 'griddot-status', role: 'status', 'aria-live': 'polite' })
  const tabs = make('div', { class: 'griddot-row', role: 'group', 'aria-label': say('Pictures') })
  const root = make(
    'div',
    // The page hands the wheel to what has this and the focus.
    { class: 'griddot', role: 'group', 'aria-label': 'GridDot', 'data-capture-wheel': 'true' },
    top,
    tabs,
    stage,
    row,
    status,
  )
  return { root, tabs, stage, canvas, labels, fields, buttons, tools, status }
}

/** A button for each of several pictures, the shown one pressed; none for a single one. */
export function fillTabs(tabs, count, shown, choose) {
  tabs.hidden = count < 2
  const wanted = tabs.hidden ? 0 : count
  while (tabs.children.length > wanted) tabs.lastChild.remove()
  for (let number = tabs.children.length; number < wanted; number++) {
    const tab = button([`${number + 1}`, say('Picture [n]', { n: number + 1 })])
    tab.addEventListener('click', () => choose(number))
    tabs.append(tab)
  }
  for (const [number, tab] of [...tabs.children].entries())
    tab.setAttribute('aria-pressed', number === shown)
}

/** Shows the numbers of a kind of shape, with what is selected; none is selected where it is null. */
export function fillFields({ labels, fields }, kind, shape) {
  const names = fieldNames()
  for (const name of NUMBERS) {
    const [label, input] = [labels[name], fields[name]]
    label.hidden = !FIELDS[kind].includes(name)
    const told = { name: names[name], shape: nameOf(kind) }
    input.setAttribute('aria-label', say('[name] of the selected [shape]', told))
    input.disabled = !shape
    if (document.activeElement !== input || !shape) input.value = shape?.[name] ?? ''
  }
}

function field(name) {
  const [min, max] = LIMITS[name]
  return make('input', { type: 'number', min, max, step: STEPS[name] ?? PLACE_STEP })
}

function made(looks) {
  return Object.fromEntries(Object.entries(looks).map(([name, look]) => [name, button(look)]))
}

function button([sign, title]) {
  return leaveUndoTo(make('button', { type: 'button', title, 'aria-label': title }, sign))
}

/**
 * Keeps the page's own undo away while the element has the focus.
 *
 * ComfyUI hears Ctrl+Z before any element does, and leaves it to fields of text alone. Up to
 * frontend 1.49 it knows them by `type`, newer ones by `isContentEditable`. They ask that also of
 * what is copied, pasted and dragged, which stays the graph's: so it is said of keys only.
 */
export function leaveUndoTo(element) {
  Object.defineProperty(element, 'type', { value: 'textarea' })
  Object.defineProperty(element, 'isContentEditable', {
    get: () => window.event instanceof KeyboardEvent,
  })
  return element
}

/** A menu beside the pointer; it goes with the next press or key anywhere. */
export function openMenu(stage, event, entries) {
  const menu = make('div', { class: 'griddot-menu', role: 'menu' })
  const close = () => {
    menu.remove()
    window.removeEventListener('pointerdown', closeOutside, true)
  }
  const closeOutside = (press) => menu.contains(press.target) || close()
  for (const [words, does] of entries) {
    const entry = leaveUndoTo(make('button', { type: 'button', role: 'menuitem' }, words))
    entry.addEventListener('click', () => {
      close()
      stage.focus()
      does()
    })
    menu.append(entry)
  }
  menu.addEventListener('pointerdown', (press) => press.stopPropagation())
  menu.addEventListener('keydown', (press) => {
    if (press.key !== 'Escape') return
    press.preventDefault() // it closes the menu, not the large editor too
    close()
    stage.focus()
  })
  const shown = stage.getBoundingClientRect()
  menu.style.left = `${((event.clientX - shown.left) * stage.clientWidth) / shown.width}px`
  menu.style.top = `${((event.clientY - shown.top) * stage.clientHeight) / shown.height}px`
  stage.append(menu)
  window.addEventListener('pointerdown', closeOutside, true)
  menu.firstElementChild.focus()
  return menu
}
