/**
 * The dots of one picture: read from text, changed, undone. Nothing here knows of the page.
 *
 * The limits are those of vlm/tokens/griddot.py, which has the last word when the workflow is queued.
 */
import { say } from '../words.js'

export const VERSION = 1
export const MAX_DOTS = 1000
export const LIMITS = { x: [0, 1], y: [0, 1], radius: [0.005, 100], strength: [-1, 1] }
export const NEW_DOT = { radius: 0.3, strength: 1 }

const FIELDS = Object.keys(LIMITS)
const DIGITS = 1000 // three digits are kept: about a pixel
const FINE = { below: 0.1, digits: 10000 } // a small radius: rounded to three, a step of 6 % is none
const HISTORY = 200
const SAME_GESTURE = 700 // milliseconds in which turns of the wheel are one step to undo

/** Reads dots from JSON text. @returns {{dots: object[], error: string}} */
export function parseDots(text) {
  if (!String(text ?? '').trim()) return { dots: [], error: '' }
  try {
    const data = JSON.parse(text)
    const list = Array.isArray(data) ? data : data?.dots
    if (!Array.isArray(list)) throw new Error(say('no list of dots'))
    if (!Array.isArray(data) && (data.version ?? VERSION) !== VERSION)
      throw new Error(say('version [version]', data))
    if (list.length > MAX_DOTS)
      throw new Error(say('[count] dots, at most [most]', { count: list.length, most: MAX_DOTS }))
    return { dots: list.map(readDot), error: '' }
  } catch (error) {
    return { dots: [], error: error.message }
  }
}

function readDot(entry, index) {
  const n = index + 1
  const dot = { strength: NEW_DOT.strength, ...entry }
  for (const [name, value] of Object.entries(dot))
    if (!FIELDS.includes(name)) throw new Error(say('dot [n]: what is [name]?', { n, name }))
    else if (typeof value !== 'number')
      throw new Error(say('dot [n]: [name] is no number', { n, name }))
  for (const name of FIELDS) {
    // The lowest radius is what can be set here; by hand it may be any over 0.
    const [low, high] = name === 'radius' ? [Number.MIN_VALUE, LIMITS.radius[1]] : LIMITS[name]
    if (dot[name] >= low && dot[name] <= high) continue
    throw new Error(
      name === 'radius'
        ? say('dot [n]: radius is not over 0, up to [high]', { n, high })
        : say('dot [n]: [name] is not [low] to [high]', { n, name, low, high }),
    )
  }
  return Object.fromEntries(FIELDS.map((name) => [name, dot[name]]))
}

/** The dots as the JSON text of the widget; no dots are the empty text. */
export function writeDots(dots) {
  return dots.length ? JSON.stringify({ version: VERSION, dots }) : ''
}

function rounded(name, value) {
  const [low, high] = LIMITS[name]
  const cut = Math.min(high, Math.max(low, value))
  const digits = name === 'radius' && cut < FINE.below ? FINE.digits : DIGITS
  return Math.round(cut * digits) / digits
}

/** Dots being edited, with what was before. */
export class Dots {
  constructor() {
    this.load('')
  }

  /** Starts over from a text; a text that cannot be read stays until a dot is added. */
  load(value) {
    // A workflow written by hand may hold the list itself.
    const text = typeof value === 'string' ? value : JSON.stringify(value ?? [])
    const { dots, error } = parseDots(text)
    this.error = error
    this.unreadable = error ? text : ''
    this.list = dots
    this.selected = dots.length - 1
    this.past = [this.#snapshot()]
    this.now = 0
    this.lastGesture = ''
  }

  get text() {
    return this.unreadable || writeDots(this.list)
  }

  /** The text as of the last step: what the workflow holds while a dot is being dragged. */
  get settled() {
    return this.past[this.now].text
  }

  get current() {
    return this.list[this.selected] ?? null
  }

  add(x, y) {
    if (this.list.length >= MAX_DOTS) return
    this.unreadable = this.error = ''
    const last = this.list.at(-1) ?? NEW_DOT
    const { radius, strength } = last
    this.list.push({ x: rounded('x', x), y: rounded('y', y), radius, strength })
    this.selected = this.list.length - 1
  }

  /** Changes values of the selected dot, cut to what they may be. */
  change(values) {
    if (!this.current) return
    const cut = Object.entries(values).map(([name, value]) => [name, rounded(name, value)])
    this.list[this.selected] = { ...this.current, ...Object.fromEntries(cut) }
  }

  remove() {
    if (!this.current) return
    this.list.splice(this.selected, 1)
    this.selected = Math.min(this.selected, this.list.length - 1)
  }

  /** Other dots in place of these. */
  replace(dots) {
    this.unreadable = this.error = ''
    this.list = dots.map((dot) => ({ ...dot }))
    this.selected = this.list.length - 1
  }

  clear() {
    this.list = []
    this.selected = -1
  }

  select(index) {
    const count = this.list.length
    this.selected = count ? (index + count) % count : -1
  }

  /**
   * Ends a step that undo goes back over. Steps of one gesture, such as turns of the wheel, join.
   * @returns {boolean} whether anything changed since the last step
   */
  commit(gesture = '', time = performance.now()) {
    const snapshot = this.#snapshot()
    if (snapshot.text === this.settled) return false
    const joins = gesture && gesture === this.lastGesture && time - this.lastTime < SAME_GESTURE
    if (!joins) this.now += 1
    this.past.splice(this.now, Infinity, snapshot)
    if (this.past.length > HISTORY) this.now -= this.past.splice(0, 1).length
    this.lastGesture = gesture
    this.lastTime = time
    return true
  }

  undo() {
    return this.#go(-1)
  }

  redo() {
    return this.#go(1)
  }

  #go(step) {
    const target = this.past[this.now + step]
    if (!target) return false
    this.now += step
    this.unreadable = this.error = ''
    const { dots, error } = parseDots(target.text)
    if (error) [this.unreadable, this.error] = [target.text, error]
    this.list = dots
    this.selected = Math.min(target.selected, dots.length - 1)
    this.lastGesture = ''
    return true
  }

  #snapshot() {
    return { text: this.text, selected: this.selected }
  }
}
