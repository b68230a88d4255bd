/**
 * The line of text on a node breaks at words, in the classic renderer too.
 *
 * The page breaks it anywhere, inside words; the rule is for that widget alone, and a name without
 * blanks, such as a path, still breaks where it must.
 */
import { app } from '../../scripts/app.js'

app.registerExtension({
  name: 'VLMConditioning.Lines',
  setup() {
    const style = document.createElement('style')
    style.textContent = '.text-xs .flex-1.break-all { word-break: normal; overflow-wrap: anywhere; }'
    document.head.append(style)
  },
})
