/** The panel on GridDot Mask: a picture with shapes, their values, and a line that says what is. */
import { say } from '../words.js'
import { Dots } from './dots.js'
import { fit, paint } from './draw.js'
import { build, fillFields, fillTabs, NUMBERS, openMenu } from './elements.js'
import { keyAction } from './keys.js'
import { openLarge } from './large.js'
import { panWith } from './pan.js'
import { Pointer } from './pointer.js'
import { presets } from './presets.js'
import { kindOf } from './shapes.js'
import { nameOf } from './text.js'
import { estimateGrid, radialMask } from './weights.js'

const LOOK_EVERY = 400 // milliseconds; wires and other widgets tell nobody that they changed
const WHEEL_STEP = 1.06
const SQUARE = { width: 1024, height: 1024 } // stands for a picture that is not known

export class Panel {
  /**
   * @param {() => object} options.surroundings what is around: see griddot.js
   * @param {() => Element|null} options.rightful the panel that should be in this one's place
   * @param {() => string|undefined} options.stored the text as the page keeps it, if it does
   * @param {() => object} options.canvas the graph's canvas, which the middle button moves
   * @param {(number: number) => void} options.onPicture called when another picture is chosen
   * @param {(text: string) => void} options.onChange called after each change made here
   */
  constructor({ surroundings, rightful, stored, canvas, onPicture, onChange }) {
    this.dots = new Dots()
    this.rightful = rightful
    this.stored = stored
    this.surroundings = surroundings
    this.onPicture = onPicture
    this.onChange = onChange
    this.around = surroundings()
    this.tool = 'dot'
    this.parts = build()
    this.element = this.parts.root
    this.pointer = new Pointer(this.parts.stage, {
      view: () => ({ dots: this.dots, box: this.#box(), grid: this.grid, tool: this.tool }),
      onMove: () => this.draw(),
      onEnd: () => this.#finish(),
    })
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
    this.#pull()
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
    this.#pull()
    const before = JSON.stringify(this.around)
    this.around = this.surroundings()
    this.#loadPicture(this.around.picture)
    if (JSON.stringify(this.around) !== before) this.draw()
  }

  /** Takes over what the page keeps, where something else changed it. */
  #pull() {
    const text = this.stored()
    if (text !== undefined && !this.pointer.held) this.value = text
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
    // Not while something is drawn: a line more would move the picture under the pointer.
    if (!this.pointer.held) this.parts.status.textContent = this.#statusText()
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
    const { current, error } = this.dots
    if (error) return say('The dots cannot be read ([error]). A click starts over.', { error })
    const { rows, cols, known } = this.grid
    return [
      ...(this.around.outside ? [say('By wire: what is drawn here does not count')] : []),
      current ? this.#whichText(kindOf(current)) : this.#howText(),
      known
        ? say('[rows] × [cols] tokens', { rows, cols })
        : say('[rows] × [cols] tokens (estimate until the node has run)', { rows, cols }),
      ...(this.around.maskWired && !(known && this.around.mask)
        ? [say('the mask shows after a run')]
        : []),
    ].join(' · ')
  }

  #whichText(kind) {
    const shape = { dot: say('Dot'), box: say('Box'), stroke: say('Stroke') }[kind]
    return say('[shape] [n] of [count]', { shape, ...this.dots.which })
  }

  #howText() {
    if (this.tool === 'stroke') return say('Draw a stroke')
    return this.tool === 'box' ? say('Drag to draw a box') : say('Click to add a dot')
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
    const { buttons, tools } = this.parts
    fillFields(this.parts, current ? kindOf(current) : this.tool, current)
    for (const [tool, button] of Object.entries(tools))
      button.setAttribute('aria-pressed', tool === this.tool)
    buttons.remove.disabled = !list.length
    buttons.undo.disabled = now === 0
    buttons.redo.disabled = now === past.length - 1
    buttons.large.hidden = Boolean(this.large)
    buttons.close.hidden = !this.large
  }

  // --- what people do --------------------------------------------------------------------------

  #listen() {
    const { root, stage, fields, buttons } = this.parts
    stage.addEventListener('pointerdown', (event) => this.#press(event))
    stage.addEventListener('contextmenu', (event) => this.#openMenu(event))
    stage.addEventListener('wheel', (event) => this.#wheel(event), { passive: false })
    root.addEventListener('keydown', (event) => this.#key(event))
    root.addEventListener('pointerenter', () => this.refresh())
    for (const name of NUMBERS)
      fields[name].addEventListener('change', () => this.#type(name, fields[name]))
    for (const name of ['remove', 'undo', 'redo'])
      buttons[name].addEventListener('click', () => this.act(name))
    buttons.presets.addEventListener('click', () => this.#openPresets())
    for (const [tool, button] of Object.entries(this.parts.tools))
      button.addEventListener('click', () => this.act('take', tool))
    for (const name of ['large', 'close'])
      buttons[name].addEventListener('click', () => this.act('large'))
  }

  /** Does one thing by its name, as keys, buttons and the menu ask for it. */
  act(name, values) {
    if (name === 'large') return this.#toggleLarge()
    const { dots } = this
    if (name === 'take') this.tool = values
    else if (name === 'add') dots.add(this.tool)
    else if (name === 'select') dots.select(dots.selected + values)
    else dots[name](values)
    const ofKeys = name === 'move' || name === 'grow'
    this.#finish(ofKeys ? 'keys' : '', name === 'undo' || name === 'redo')
  }

  /** Ends a step: tells of it, if it changed anything. */
  #finish(gesture = '', travelled = false) {
    const changed = travelled || this.dots.commit(gesture)
    this.draw()
    if (changed) this.onChange(this.value)
  }

  #press(event) {
    if (event.button !== 0) return
    event.stopPropagation()
    this.menu?.remove()
    this.parts.stage.focus()
    this.pointer.press(event)
  }

  /** The wheel sets the size once the panel has the focus; before, it zooms the graph. */
  #wheel(event) {
    const focused = this.element.contains(document.activeElement)
    if (!focused || !this.dots.current || event.ctrlKey || event.metaKey) return
    event.preventDefault()
    event.stopPropagation()
    const factor = event.deltaY < 0 ? WHEEL_STEP : 1 / WHEEL_STEP
    this.dots.grow(factor)
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
    const hit = this.pointer.shapeAt(event)
    if (hit >= 0) this.dots.select(hit)
    this.draw()
    const entries = []
    const shape = hit >= 0 && nameOf(kindOf(this.dots.current))
    if (shape) entries.push([say('Remove [shape]', { shape }), () => this.act('remove')])
    if (this.dots.list.length) entries.push([say('Remove all'), () => this.act('clear')])
    if (entries.length) this.menu = openMenu(this.parts.stage, event, entries)
  }
}
