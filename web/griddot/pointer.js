/** What a mouse, a pen or a finger does on the stage: chooses, moves, sizes and draws shapes. */
import { DOT_SIZE, handlesOf, middleOf, shapeOf } from './draw.js'
import { anchorOf, kindOf } from './shapes.js'

const GRAB = { mouse: DOT_SIZE + 4, pen: DOT_SIZE + 6, touch: DOT_SIZE + 13 } // what counts as on
const LEAST_WAY = 0.01 // of the picture, between two points of a stroke
const OF_RADIUS = 4 // points are no nearer than this part of a radius: nothing would be seen of it
const LEAST_BOX = 4 // pixels; what is smaller was a click

export class Pointer {
  /**
   * @param {Element} stage
   * @param {() => object} options.view {dots, box, grid, tool} as they are now
   * @param {() => void} options.onMove called when something looks other than before
   * @param {() => void} options.onEnd called at the end of a step
   */
  constructor(stage, { view, onMove, onEnd }) {
    Object.assign(this, { stage, view, onMove, onEnd })
    this.held = null // what a press began: {id, to: (place) => void, end?: () => void}
    stage.addEventListener('pointermove', (event) => this.#drag(event))
    stage.addEventListener('pointerup', (event) => this.#release(event))
    stage.addEventListener('pointercancel', (event) => this.#release(event))
  }

  /** Where an event is: in CSS pixels of the stage, and on the picture from 0 to 1. */
  place(event) {
    const { stage } = this
    const { box } = this.view()
    const shown = stage.getBoundingClientRect() // as zoomed by the graph
    const x = ((event.clientX - shown.left) * stage.clientWidth) / shown.width
    const y = ((event.clientY - shown.top) * stage.clientHeight) / shown.height
    return { x, y, across: (x - box.left) / box.width, down: (y - box.top) / box.height }
  }

  /** The number of the shape whose anchor an event is on, or -1. */
  shapeAt(event) {
    const { dots, box, grid } = this.view()
    const { x, y } = this.place(event)
    const away = dots.list.map((shape) => {
      const at = shapeOf(middleOf(shape), box, grid)
      return Math.hypot(at.x - x, at.y - y)
    })
    const nearest = away.indexOf(Math.min(...away))
    return away[nearest] <= grabOf(event) ? nearest : -1
  }

  /** Begins to move, to size or to draw. @returns {boolean} whether anything */
  press(event) {
    if (this.held) return false // a second finger
    const { dots, tool } = this.view()
    const place = this.place(event)
    const hit = this.shapeAt(event)
    const handle = this.#handleAt(place, grabOf(event))
    if (hit >= 0) {
      dots.select(hit)
      this.held = this.#move(place)
    } else if (handle) this.held = this.#size(place, handle)
    else if (place.across < 0 || place.across > 1 || place.down < 0 || place.down > 1) return false
    else this.held = this.#draw(tool, place)
    if (!this.held) return false
    this.held.id = event.pointerId
    this.stage.setPointerCapture(event.pointerId)
    this.onMove()
    return true
  }

  #handleAt({ x, y }, grab) {
    const { dots, box, grid } = this.view()
    if (!dots.current) return null
    const near = (handle) => Math.hypot(handle.x - x, handle.y - y) <= grab
    return handlesOf(dots.current, box, grid).find(near) ?? null
  }

  /** Holds a shape where it was touched, so that it does not jump to the pointer. */
  #move(from) {
    const { dots } = this.view()
    const { x, y } = anchorOf(dots.current)
    return {
      to: ({ across, down }) => dots.place(x + across - from.across, y + down - from.down),
    }
  }

  #size(from, { sets }) {
    const { dots } = this.view()
    if (sets.length > 1) return { to: this.#corner(sets) }
    const [{ radius }, reach] = [dots.current, this.#reachTo(from)]
    return { to: (place) => dots.change({ radius: (radius * this.#reachTo(place)) / reach }) }
  }

  #corner([horizontal, vertical]) {
    const { dots } = this.view()
    return ({ across, down }) => {
      dots.change({ [horizontal]: across })
      dots.change({ [vertical]: down })
    }
  }

  #reachTo(place) {
    const { dots, box, grid } = this.view()
    const { x, y } = shapeOf(middleOf(dots.current), box, grid)
    return Math.max(1, Math.hypot(place.x - x, place.y - y))
  }

  #draw(tool, from) {
    const { dots } = this.view()
    const { across, down } = from
    if (tool === 'dot') return dots.add('dot', { x: across, y: down }) ? this.#move(from) : null
    if (tool === 'stroke')
      return dots.add('stroke', { points: [[across, down]] }) ? this.#brush(from) : null
    return this.#stretch(from)
  }

  /** A line that follows the pointer; its last point is where the pointer left. */
  #brush(from) {
    const { dots } = this.view()
    const least = Math.max(LEAST_WAY, dots.current.radius / OF_RADIUS)
    let last = [from.across, from.down]
    let seen = last
    const add = () => {
      last = seen
      dots.extend(...seen)
    }
    const away = () => Math.hypot(seen[0] - last[0], seen[1] - last[1])
    return {
      to: ({ across, down }) => {
        seen = [within(across), within(down)]
        if (away() >= least) add()
      },
      end: () => away() >= LEAST_WAY / 2 && add(),
    }
  }

  /** A box between where the pointer was pressed and where it is; a click makes none. */
  #stretch(from) {
    const { dots } = this.view()
    let began = false
    return {
      to: (place) => {
        const [x0, x1] = sorted(from.across, place.across)
        const [y0, y1] = sorted(from.down, place.down)
        const least = Math.min(Math.abs(place.x - from.x), Math.abs(place.y - from.y))
        if (began) dots.change({ x0, y0, x1, y1 })
        else if (least >= LEAST_BOX) began = dots.add('box', { x0, y0, x1, y1 })
      },
    }
  }

  #drag(event) {
    if (this.held?.id !== event.pointerId) return
    // A pen tells of more places than the page is drawn at.
    const passed = event.getCoalescedEvents?.() ?? []
    for (const each of passed.length ? passed : [event]) this.held.to(this.place(each))
    this.onMove()
  }

  #release(event) {
    if (this.held?.id !== event.pointerId) return
    event.stopPropagation()
    this.held.end?.()
    this.held = null
    this.onEnd()
  }
}

function grabOf({ pointerType }) {
  return GRAB[pointerType] ?? GRAB.mouse
}

function within(share) {
  return Math.min(1, Math.max(0, share))
}

function sorted(one, other) {
  return one < other ? [one, other] : [other, one]
}
