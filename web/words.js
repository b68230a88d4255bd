/**
 * What the pack's own elements say, in the language of the page.
 *
 * The English text is the key: locales/LANG/main.json has the others, and `python -m tools.translate`
 * makes it from locales/LANG/phrases.json and from what the scripts give to say().
 */
const OURS = 'vlmConditioning' // in what ComfyUI makes of the main.json of all packs
let words = {}

/** Learns the words of a language; what it has no words for stays English. */
export async function learn(language, api) {
  const answer = await api.fetchApi('/i18n')
  words = (answer.ok && (await answer.json())[language]?.[OURS]) || {}
}

/** @param {string} text in English, where [name] stands for one of the values */
export function say(text, values = {}) {
  return (words[text] ?? text).replace(/\[(\w+)\]/g, (_, name) => values[name])
}
