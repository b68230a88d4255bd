/**
 * The JSON text of the shapes on a picture, as vlm/tokens/shape_text.py reads and writes it.
 *
 * Dots alone are version 1, which every release of the pack reads.
 */
import { say } from '../words.js'
import { countPoints, FIELDS, KINDS, kindOf, LIMITS, MAX_POINTS, MAX_SHAPES } from './shapes.js'

const DOTS_ALONE = 1
const ALL_SHAPES = 2
const LISTS = { dots: 'dot', boxes: 'box', strokes: 'stroke' }
const FULL = 1 // strength where none is written

/** What a kind of shape is called in the page's language. */
export function nameOf(kind) {
  return { dot: say('dot'), box: say('box'), stroke: say('stroke') }[kind]
}

/** Reads shapes from JSON text: dots, then boxes, then strokes. @returns {{dots, error: string}} */
export function parseDots(text) {
  if (!String(text ?? '').trim()) return { dots: [], error: '' }
  try {
    const lists = readLists(JSON.parse(text))
    const all = lists.flatMap(([kind, entries]) => entries.map((entry, at) => [kind, entry, at]))
    if (all.length > MAX_SHAPES)
      throw new Error(say('[count] shapes, at most [most]', { count: all.length, most: MAX_SHAPES }))
    const points = countPoints(all.map(([, entry]) => entry ?? {}))
    if (points > MAX_POINTS)
      throw new Error(say('[count] points, at most [most]', { count: points, most: MAX_POINTS }))
    return { dots: all.map(([kind, entry, at]) => readShape(kind, entry, at + 1)), error: '' }
  } catch (error) {
    return { dots: [], error: error.message }
  }
}

/** The shapes as the JSON text of the widget; none are the empty text. */
export function writeDots(shapes) {
  if (!shapes.length) return ''
  const of = (kind) => shapes.filter((shape) => kindOf(shape) === kind)
  const lists = Object.entries(LISTS).map(([key, kind]) => [key, of(kind)])
  const [[, dots]] = lists
  if (dots.length === shapes.length) return JSON.stringify({ version: DOTS_ALONE, dots })
  return JSON.stringify({ version: ALL_SHAPES, ...Object.fromEntries(lists) })
}

/** Entries of each kind, unread, in the order of KINDS. */
function readLists(data) {
  const version = Array.isArray(data) ? DOTS_ALONE : (data?.version ?? DOTS_ALONE)
  if (version !== DOTS_ALONE && version !== ALL_SHAPES)
    throw new Error(say('version [version]', { version }))
  let lists = [['dot', Array.isArray(data) ? data : data?.dots]]
  if (version === ALL_SHAPES) {
    const strange = Object.keys(data).find((key) => key !== 'version' && !(key in LISTS))
    if (strange) throw new Error(say('what is [name]?', { name: strange }))
    const given = Object.entries(LISTS).filter(([key]) => key in data)
    if (given.length) lists = given.map(([key, kind]) => [kind, data[key]])
  }
  if (!lists.every(([, entries]) => Array.isArray(entries))) throw new Error(say('no list of dots'))
  return lists.sort(([a], [b]) => KINDS.indexOf(a) - KINDS.indexOf(b))
}

function readShape(kind, entry, n) {
  const told = { shape: nameOf(kind), n }
  const shape = { strength: FULL, ...entry }
  const names = kind === 'stroke' ? ['points', ...FIELDS.stroke] : FIELDS[kind]
  const strange = Object.keys(shape).find((name) => !names.includes(name))
  if (strange) throw new Error(say('[shape] [n]: what is [name]?', { ...told, name: strange }))
  if (kind === 'stroke') checkPoints(shape.points, told)
  for (const name of FIELDS[kind]) checkNumber(name, shape[name], told)
  if (kind === 'box' && !(shape.x0 < shape.x1 && shape.y0 < shape.y1))
    throw new Error(say('[shape] [n] has no inside', told))
  return Object.fromEntries(names.map((name) => [name, shape[name]]))
}

function checkPoints(points, told) {
  const isPoint = (point) => Array.isArray(point) && point.length === 2
  if (!Array.isArray(points) || !points.length || !points.every(isPoint))
    throw new Error(say('[shape] [n]: points is no list of x, y', told))
  for (const [x, y] of points) {
    checkNumber('x', x, told)
    checkNumber('y', y, told)
  }
}

function checkNumber(name, value, told) {
  if (typeof value !== 'number')
    throw new Error(say('[shape] [n]: [name] is no number', { ...told, name }))
  // The lowest radius is what can be set here; by hand it may be any over 0.
  const [low, high] = name === 'radius' ? [Number.MIN_VALUE, LIMITS.radius[1]] : LIMITS[name]
  if (value >= low && value <= high) return
  throw new Error(
    name === 'radius'
      ? say('[shape] [n]: radius is not over 0, up to [high]', { ...told, high })
      : say('[shape] [n]: [name] is not [low] to [high]', { ...told, name, low, high }),
  )
}
