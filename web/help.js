/**
 * The pack's own help pages, where the page's style leaves them hard to read.
 *
 * Inline code and tables are as easy to read as the words around them: the page's colours for code
 * have a contrast of about 3.5, those of words in tables (frontend 1.58) one of 4.3 behind code. In a
 * narrow sidebar, where the page cuts what is wider, the cells of a table stand below each other. The
 * rules are for pages whose picture of wires is a block called `wires`: those of this pack.
 */
import { app } from '../../scripts/app.js'

const OURS = '.node-help-content:has(code.language-wires)'
const STYLE = `
${OURS} { container: vlmc-help / inline-size; }
${OURS} :is(table, td, :not(pre) > code) { color: inherit; }
@container vlmc-help (max-width: 460px) {
  .node-help-content :is(table, tbody, tr, td) { display: block; width: auto; }
  .node-help-content thead { display: none; }
  .node-help-content tr { padding: 6px 0; }
  .node-help-content td { padding: 2px 0; overflow-wrap: anywhere; }
}`

app.registerExtension({
  name: 'VLMConditioning.Help',
  setup() {
    const style = document.createElement('style')
    style.textContent = STYLE
    document.head.append(style)
  },
})
