/** The panel on GridDot Mask: a picture with dots, their values, and a line that says what is. */
import { say } from '../words.js'
import { Dots } from './dots.js'
import { DOT_SIZE, fit, handleOf, paint, shapeOf } from './draw.js'
import { build, FIELDS, fillTabs, openMenu } from './elements.js'
import { keyAction } from './keys.js'
import { openLarge } from './large.js'
import { panWith } from './pan.js'
import { presets } from './presets.js'
import { estimateGrid, radialMask } from './weights.js'

const LOOK_EVERY = 400 // milliseconds; wires and other widgets tell nobody that they changed
const GRAB = DOT_SIZE + 4 // how near counts as on a dot or its handle
const WHEEL_STEP = 1.06
const SQUARE = { width: 1024, height: 1024 } // stands for a picture that is not known

export class Panel {
  /**
   * @param {() => object} options.surroundings what is around: see griddot.js
   * @param {() => Element|null} options.rightful the panel that should be in this one's place
   * @param {() => object} options.canvas the graph's canvas, which the middle button moves
   * @param {(number: number) => void} options.onPicture called when another picture is chosen
   * @param {(text: string) => void} options.onChange called after each change made here
   */
  constructor({ surroundings, rightful, canvas, onPicture, onChange }) {
    this.dots = new Dots()
    this.rightful = rightful
    this.surroundings = surroundings
    this.onPicture = onPicture
    this.onChange = onChange
    this.around = surroundings()
    this.parts = build()
    this.element = this.parts.root
    this.#listen()
    panWith(this.element, canvas)
    new ResizeObserver(() => this.#appear()).observe(this.parts.stage)
  }

  /** The JSON text. The page may save at any moment, so it sees no half of a drag. */
  get value() {
    return this.dots.settled
  }

  set value(text) {
    if (text === this.value) return
    this.dots.load(text)
    this.draw()
  }

  /** On the page, or there in another size: draws, and looks around until it is gone. */
  #appear() {
    this.draw()
    this.timer ??= setInterval(() => {
      if (this.element.isConnected) return this.refresh()
      clearInterval(this.timer)
      this.timer = null
    }, LOOK_EVERY)
  }

  /** Looks around, and draws where something is other than before. */
  refresh() {
    const other = this.rightful()
    if (other) return this.element.replaceWith(other)
    if (this.large && !this.large.contains(this.element)) this.large.close()
    const before = JSON.stringify(this.around)
    this.around = this.surroundings()
    this.#loadPicture(this.around.picture)
    if (JSON.stringify(this.around) !== before) this.draw()
  }

  /** Rows and columns, and whether a run of the node told them. */
  get grid() {
    const size = this.#pictureSize()
    const known = this.around.grid
    if (known) {
      const wanted = (known.rows * size.width) / size.height
      const exact = !this.picture || Math.abs(known.cols - wanted) <= 1 + 0.05 * known.cols
      if (exact) return { ...known, known: true }
    }
    return { ...estimateGrid(size.width, size.height), known: false }
  }

  get weights() {
    const { rows, cols, known } = this.grid
    const { combine, floor, mask } = this.around
    const fits = known && mask?.length === rows * cols ? mask : null
    return radialMask(rows, cols, this.dots.list, combine, floor, fits)
  }

  draw() {
    const { stage, canvas } = this.parts
    this.#fillFields()
    const { pictures, number } = this.around
    fillTabs(this.parts.tabs, pictures, number, this.onPicture)
    this.parts.status.textContent = this.#statusText()
    this.parts.status.classList.toggle('griddot-wrong', Boolean(this.dots.error))
    if (!stage.clientWidth || !stage.clientHeight) return
    paint(canvas, {
      stage: { width: stage.clientWidth, height: stage.clientHeight },
      box: this.#box(),
      grid: this.grid,
      image: this.picture,
      weights: this.weights,
      dots: this.dots.list,
      selected: this.dots.selected,
    })
  }

  // --- what is shown ---------------------------------------------------------------------------

  #pictureSize() {
    const { picture } = this
    if (picture) return { width: picture.naturalWidth, height: picture.naturalHeight }
    const known = this.around.grid
    return known ? { width: known.cols, height: known.rows } : SQUARE
  }

  #box() {
    const { clientWidth: width, clientHeight: height } = this.parts.stage
    return fit({ width, height }, this.#pictureSize())
  }

  #loadPicture(src) {
    if (src === this.pictureAddress) return
    this.pictureAddress = src
    this.picture = null
    if (!src) return
    const image = new Image()
    image.onload = () => {
      if (src !== this.pictureAddress) return
      this.picture = image
      this.draw()
    }
    image.src = src
  }

  #statusText() {
    const { list, selected, error } = this.dots
    if (error) return say('The dots cannot be read ([error]). A click starts over.', { error })
    const { rows, cols, known } = this.grid
    const which = { n: selected + 1, count: list.length }
    return [
      list.length ? say('Dot [n] of [count]', which) : say('Click to add a dot'),
      known
        ? say('[rows] × [cols] tokens', { rows, cols })
        : say('[rows] × [cols] tokens (estimate until the node has run)', { rows, cols }),
      ...(this.around.maskWired && !(known && this.around.mask)
        ? [say('the mask shows after a run')]
        : []),
    ].join(' · ')
  }

  /** Opens the large editor, or closes it: this panel, with all that it knows. */
  #toggleLarge() {
    if (this.large) return this.large.close()
    const before = document.activeElement
    this.large = openLarge(this.element, () => {
      this.large = null
      this.draw()
      before.focus()
    })
    this.draw()
    this.parts.stage.focus()
  }

  #fillFields() {
    const { current, list, past, now } = this.dots
    for (const name of FIELDS) {
      const field = this.parts.fields[name]
      field.disabled = !current
      if (document.activeElement !== field || !current) field.value = current?.[name] ?? ''
    }
    this.parts.buttons.remove.disabled = !list.length
    this.parts.buttons.undo.disabled = now === 0
    this.parts.buttons.redo.disabled = now === past.length - 1
    this.parts.buttons.large.hidden = Boolean(this.large)
    this.parts.buttons.close.hidden = !this.large
  }

  // --- what people do --------------------------------------------------------------------------

  #listen() {
    const { root, stage, fields, buttons } = this.parts
    stage.addEventListener('pointerdown', (event) => this.#press(event))
    stage.addEventListener('pointermove', (event) => this.#drag(event))
    stage.addEventListener('pointerup', (event) => this.#release(event))
    stage.addEventListener('pointercancel', (event) => this.#release(event))
    stage.addEventListener('contextmenu', (event) => this.#openMenu(event))
    stage.addEventListener('wheel', (event) => this.#wheel(event), { passive: false })
    root.addEventListener('keydown', (event) => this.#key(event))
    root.addEventListener('pointerenter', () => this.refresh())
    for (const name of FIELDS)
      fields[name].addEventListener('change', () => this.#type(name, fields[name]))
    for (const name of ['remove', 'undo', 'redo'])
      buttons[name].addEventListener('click', () => this.act(name))
    buttons.presets.addEventListener('click', () => this.#openPresets())
    for (const name of ['large', 'close'])
      buttons[name].addEventListener('click', () => this.act('large'))
  }

  /** Does one thing by its name, as keys, buttons and the menu ask for it. */
  act(name, values) {
    if (name === 'large') return this.#toggleLarge()
    const { dots } = this
    if (name === 'add') dots.add(0.5, 0.5)
    else if (name === 'change') dots.change(values(dots.current))
    else if (name === 'select') dots.select(dots.selected + values)
    else if (name === 'replace') dots.replace(values)
    else dots[name]()
    this.#finish(name === 'change' ? 'keys' : '', name === 'undo' || name === 'redo')
  }

  /** Ends a step: tells of it, if it changed anything. */
  #finish(gesture = '', travelled = false) {
    const changed = travelled || this.dots.commit(gesture)
    this.draw()
    if (changed) this.onChange(this.value)
  }

  /** Where an event is: in CSS pixels of the stage, and on the picture from 0 to 1. */
  #place(event) {
    const { stage } = this.parts
    const shown = stage.getBoundingClientRect() // as zoomed by the graph
    const x = ((event.clientX - shown.left) * stage.clientWidth) / shown.width
    const y = ((event.clientY - shown.top) * stage.clientHeight) / shown.height
    const box = this.#box()
    return { x, y, across: (x - box.left) / box.width, down: (y - box.top) / box.height }
  }

  #dotAt({ x, y }) {
    const [box, grid] = [this.#box(), this.grid]
    const away = this.dots.list.map((dot) => {
      const shape = shapeOf(dot, box, grid)
      return Math.hypot(shape.x - x, shape.y - y)
    })
    const nearest = away.indexOf(Math.min(...away))
    return away[nearest] <= GRAB ? nearest : -1
  }

  #onHandle({ x, y }) {
    if (!this.dots.current) return false
    const handle = handleOf(this.dots.current, this.#box(), this.grid)
    return Math.hypot(handle.x - x, handle.y - y) <= GRAB
  }

  #press(event) {
    if (event.button !== 0) return
    event.stopPropagation()
    this.menu?.remove()
    const { stage } = this.parts
    stage.focus()
    const place = this.#place(event)
    const hit = this.#dotAt(place)
    if (hit >= 0) this.dots.select(hit)
    else if (this.#onHandle(place)) {
      const { radius } = this.dots.current
      this.dragging = { what: 'radius', from: this.#reachTo(place), radius }
    } else if (place.across < 0 || place.across > 1 || place.down < 0 || place.down > 1) return
    else this.dots.add(place.across, place.down)
    this.dragging ??= this.#grip(place)
    stage.setPointerCapture(event.pointerId)
    this.draw()
  }

  /** Holds a dot where it was touched, so that it does not jump to the pointer. */
  #grip(place) {
    const { x, y } = this.dots.current
    return { what: 'place', across: place.across - x, down: place.down - y }
  }

  #reachTo(place) {
    const { x, y } = shapeOf(this.dots.current, this.#box(), this.grid)
    return Math.max(1, Math.hypot(place.x - x, place.y - y))
  }

  #drag(event) {
    const { dragging } = this
    if (!dragging) return
    const place = this.#place(event)
    if (dragging.what === 'radius')
      this.dots.change({ radius: (dragging.radius * this.#reachTo(place)) / dragging.from })
    else this.dots.change({ x: place.across - dragging.across, y: place.down - dragging.down })
    this.draw()
  }

  #release(event) {
    if (!this.dragging) return
    event.stopPropagation()
    this.dragging = null
    this.#finish()
  }

  /** The wheel sets the radius once the panel has the focus; before, it zooms the graph. */
  #wheel(event) {
    const focused = this.element.contains(document.activeElement)
    if (!focused || !this.dots.current || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    event.stopPropagation()
    const factor = event.deltaY < 0 ? WHEEL_STEP : 1 / WHEEL_STEP
    this.dots.change({ radius: this.dots.current.radius * factor })
    this.#finish('wheel')
  }

  #key(event) {
    const typing = event.target instanceof HTMLInputElement
    const onButton = event.target instanceof HTMLButtonElement
    const action = keyAction(event, typing, onButton)
    if (typing && !action) event.stopPropagation() // digits are no shortcuts of the page
    if (!action) return
    event.preventDefault()
    event.stopPropagation()
    if (typing) this.parts.stage.focus()
    if (action.name) this.act(action.name, action.values)
  }

  #type(name, field) {
    const value = Number(field.value)
    if (field.value !== '' && Number.isFinite(value)) this.dots.change({ [name]: value })
    field.value = this.dots.current?.[name] ?? ''
    this.#finish()
  }

  #openPresets() {
    this.menu?.remove()
    const { left, top } = this.parts.stage.getBoundingClientRect()
    const entries = presets().map(([name, dots]) => [name, () => this.act('replace', dots)])
    this.menu = openMenu(this.parts.stage, { clientX: left + 8, clientY: top + 8 }, entries)
  }

  #openMenu(event) {
    event.preventDefault()
    event.stopPropagation()
    this.menu?.remove()
    const hit = this.#dotAt(this.#place(event))
    if (hit >= 0) this.dots.select(hit)
    this.draw()
    const entries = []
    if (hit >= 0) entries.push([say('Remove dot'), () => this.act('remove')])
    if (this.dots.list.length) entries.push([say('Remove all dots'), () => this.act('clear')])
    if (entries.length) this.menu = openMenu(this.parts.stage, event, entries)
  }
}
