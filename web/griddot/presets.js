/** Dots to begin with, by what people call the part of a picture. */
import { say } from '../words.js'

const WIDE = 0.45 // radius of three dots that cover a side together
const THIRDS = [0.2, 0.5, 0.8]
const dot = (x, y, radius) => ({ x, y, radius, strength: 1 })

/** @returns {[string, {x, y, radius, strength}[]][]} names in the page's language, and their dots */
export function presets() {
  return [
    [say('Middle'), [dot(0.5, 0.5, 0.5)]],
    [say('Left'), THIRDS.map((y) => dot(0.2, y, WIDE))],
    [say('Right'), THIRDS.map((y) => dot(0.8, y, WIDE))],
    [say('Top'), THIRDS.map((x) => dot(x, 0.2, WIDE))],
    [say('Bottom'), THIRDS.map((x) => dot(x, 0.8, WIDE))],
    [say('Three side by side'), THIRDS.map((x) => dot(x, 0.5, 0.3))],
  ]
}
