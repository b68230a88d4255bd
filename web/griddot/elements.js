/** The panel's elements and their looks. */
import { say } from '../words.js'
import { LIMITS } from './dots.js'

export const FIELDS = ['x', 'y', 'radius', 'strength']
const STEPS = { x: 0.01, y: 0.01, radius: 0.05, strength: 0.1 }
const fieldNames = () => ({
  x: say('x'),
  y: say('y'),
  radius: say('radius'),
  strength: say('strength'),
})
const fieldTitles = () => ({
  x: say('From the left edge, 0 to 1'),
  y: say('From the top edge, 0 to 1'),
  radius: say('Reach; 1 = the shorter side of the token grid'),
  strength: say('1 keeps, -1 takes away'),
})
const buttonLooks = () => ({
  presets: ['▾', say('Dots to begin with')],
  remove: ['✕', say('Remove the selected dot (Delete)')],
  undo: ['↶', say('Undo (Ctrl+Z)')],
  redo: ['↷', say('Redo (Ctrl+Y)')],
})
const help = () =>
  [
    say('Picture with dots. Click or Enter adds a dot, arrow keys move it.'),
    say('Plus and minus or the wheel set its radius, Delete removes it.'),
    say('N and P go to the next and previous dot, Ctrl+Z undoes.'),
  ].join(' ')

const STYLE = `
.griddot { display: flex; flex-direction: column; gap: 4px; box-sizing: border-box;
  min-height: 380px; width: 100%; font: 12px sans-serif; color: var(--input-text, #ddd); }
.griddot-stage { position: relative; flex: 1 1 0; min-height: 300px; overflow: hidden;
  border-radius: 6px; background: var(--comfy-input-bg, #222); cursor: crosshair;
  touch-action: none; outline: none; }
.griddot-stage:focus::after { content: ''; position: absolute; inset: 0; border-radius: 6px;
  box-shadow: inset 0 0 0 2px #4db4ff; pointer-events: none; }
.griddot-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%;
  pointer-events: none; }
.griddot-row[hidden] { display: none; }
.griddot button[aria-pressed='true'] { border-color: #4db4ff; font-weight: bold; }
.griddot-row { display: flex; gap: 4px; align-items: end; flex: none; }
.griddot label { display: flex; flex-direction: column; flex: 1 1 0; min-width: 0; font-size: 11px;
  color: var(--input-text, #ddd); }
.griddot input { width: 100%; min-width: 0; box-sizing: border-box; height: 24px; padding: 0 4px;
  font: 12px sans-serif; color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222);
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; appearance: textfield; }
.griddot input::-webkit-inner-spin-button { display: none; }
.griddot button { height: 24px; min-width: 26px; padding: 0 4px; font: 13px sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); cursor: pointer;
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; }
.griddot button:disabled, .griddot input:disabled { opacity: 0.8; cursor: default; }
.griddot-status { flex: none; font-size: 11px; line-height: 14px; min-height: 14px;
  color: var(--input-text, #ddd); }
.griddot-wrong { padding-left: 5px; border-left: 3px solid var(--error-text, #ff6b5e); }
.griddot-menu { position: absolute; z-index: 1; display: flex; flex-direction: column; padding: 3px;
  background: var(--comfy-menu-bg, #353535); border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 4px; }
.griddot-menu button { text-align: left; border: none; background: none; }
.griddot-menu button:hover, .griddot-menu button:focus { background: var(--comfy-input-bg, #222); }
`

function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

function addStyle() {
  if (document.getElementById('griddot-style')) return
  document.head.append(make('style', { id: 'griddot-style' }, STYLE))
}

/** @returns {{root, tabs, stage, canvas, fields, buttons, status}} */
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
  const fields = Object.fromEntries(FIELDS.map((name) => [name, field(name, names[name])]))
  const buttons = {}
  for (const [name, looks] of Object.entries(buttonLooks())) buttons[name] = button(looks)
  const row = make('div', { class: 'griddot-row' })
  for (const name of FIELDS)
    row.append(make('label', { title: titles[name] }, names[name], fields[name]))
  row.append(...Object.values(buttons))
  const status = make('div', { class: 'griddot-status', role: 'status', 'aria-live': 'polite' })
  const tabs = make('div', { class: 'griddot-row', role: 'group', 'aria-label': say('Pictures') })
  const root = make(
    'div',
    // The page hands the wheel to what has this and the focus.
    { class: 'griddot', role: 'group', 'aria-label': 'GridDot', 'data-capture-wheel': 'true' },
    tabs,
    stage,
    row,
    status,
  )
  return { root, tabs, stage, canvas, fields, buttons, status }
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

function field(name, called) {
  const [min, max] = LIMITS[name]
  const limits = { min, max, step: STEPS[name] }
  const label = say('[name] of the selected dot', { name: called })
  return make('input', { type: 'number', 'aria-label': label, ...limits })
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
function leaveUndoTo(element) {
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
  menu.addEventListener('keydown', (press) => press.key === 'Escape' && close())
  const shown = stage.getBoundingClientRect()
  menu.style.left = `${((event.clientX - shown.left) * stage.clientWidth) / shown.width}px`
  menu.style.top = `${((event.clientY - shown.top) * stage.clientHeight) / shown.height}px`
  stage.append(menu)
  window.addEventListener('pointerdown', closeOutside, true)
  menu.firstElementChild.focus()
  return menu
}
