/**
 * Inline code on the pack's own help pages is as easy to read as the words around it.
 *
 * The page's colour for it has a contrast of about 3.5 in either theme. The rule is for pages whose
 * picture of wires is a block called `wires`: those of this pack.
 */
import { app } from '../../scripts/app.js'

app.registerExtension({
  name: 'VLMConditioning.Help',
  setup() {
    const style = document.createElement('style')
    style.textContent =
      '.node-help-content .markdown-content:has(code.language-wires) :not(pre) > code { color: inherit; }'
    document.head.append(style)
  },
})
