/** The shapes of one picture being edited: changed, undone, as text. Nothing here knows of the page. */
import {
  anchorOf,
  changed,
  countPoints,
  grown,
  KINDS,
  kindOf,
  made,
  MAX_POINTS,
  MAX_SHAPES,
  placed,
  roundedPoint,
} from './shapes.js'
import { parseDots, writeDots } from './text.js'

const HISTORY = 200
const SAME_GESTURE = 700 // milliseconds in which turns of the wheel are one step to undo

/** Shapes being edited, with what was before: dots first, then boxes, then strokes. */
export class Dots {
  constructor() {
    this.load('')
  }

  /** Starts over from a text; a text that cannot be read stays until a shape is added. */
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

  /** How many there are of the selected one's kind, and which of them it is, from 1. */
  get which() {
    const same = this.list.filter((shape) => kindOf(shape) === kindOf(this.current))
    return { n: same.indexOf(this.current) + 1, count: same.length }
  }

  /**
   * Adds a shape of a kind, as large and strong as the last one, and selects it.
   * @returns {boolean} false where a picture takes no more
   */
  add(kind, values = {}) {
    const full = kind === 'stroke' && countPoints(this.list) >= MAX_POINTS
    if (full || this.list.length >= MAX_SHAPES) return false
    this.unreadable = this.error = ''
    const rank = KINDS.indexOf(kind)
    const after = this.list.findIndex((shape) => KINDS.indexOf(kindOf(shape)) > rank)
    const at = after < 0 ? this.list.length : after
    const last = this.list[at - 1]
    const shape = made(kind, values, last && kindOf(last) === kind ? last : {})
    this.list.splice(at, 0, shape)
    this.selected = at
    return true
  }

  /** Changes values of the selected shape, cut to what they may be. */
  change(values) {
    if (this.current) this.list[this.selected] = changed(this.current, values)
  }

  /** Brings the selected shape's anchor to a place. */
  place(x, y) {
    if (this.current) this.list[this.selected] = placed(this.current, x, y)
  }

  move([across, down]) {
    if (!this.current) return
    const { x, y } = anchorOf(this.current)
    this.place(x + across, y + down)
  }

  grow(factor) {
    if (this.current) this.list[this.selected] = grown(this.current, factor)
  }

  /** Draws the selected stroke on to a place, while a picture takes more points. */
  extend(x, y) {
    if (countPoints(this.list) >= MAX_POINTS) return
    const points = [...this.current.points, roundedPoint([x, y])]
    this.list[this.selected] = { ...this.current, points }
  }

  remove() {
    if (!this.current) return
    this.list.splice(this.selected, 1)
    this.selected = Math.min(this.selected, this.list.length - 1)
  }

  /** Other dots in place of all that is drawn. */
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
