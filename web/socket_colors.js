/**
 * Colours of the pack's sockets and wires, in both renderers.
 *
 * A palette of the page names colours of ComfyUI's own types and empties those of all others each
 * time it is applied. A palette that names ours wins.
 */
import { app } from '../../scripts/app.js'

const COLORS = {
  VLMC_MODEL: '#b18cff',
  VLMC_HIDDEN_STATES: '#2fc6b7',
  VLMC_PICTURES: '#7fb4ff',
  VLMC_CONNECTOR: '#e58fb1',
  VLMC_STATS: '#b9c24a',
}

/** The classic renderer: a palette's colour while it names one, otherwise ours. */
function keepOn(table) {
  for (const [type, own] of Object.entries(COLORS)) {
    let color = table[type] || own
    const set = (value) => (color = value || own)
    Object.defineProperty(table, type, { get: () => color, set, enumerable: true })
  }
}

/** The Vue renderer: palettes are inline properties of the root, which go before a sheet's. */
function addStyle() {
  const lines = Object.entries(COLORS).map(([type, own]) => `--color-datatype-${type}: ${own};`)
  const style = document.createElement('style')
  style.textContent = `:root { ${lines.join(' ')} }`
  document.head.append(style)
}

app.registerExtension({
  name: 'VLMConditioning.SocketColors',
  setup() {
    addStyle()
    keepOn(app.canvas.default_connection_color_byType)
    keepOn(app.canvas.constructor.link_type_colors)
  },
})
