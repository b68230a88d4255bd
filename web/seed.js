/**
 * A new VLM Rewrite Prompt keeps its seed: who queues again wants the same answer.
 *
 * The schema's own `ControlAfterGenerate.fixed` gives the widget the name "fixed" up to frontend 1.49,
 * and a workflow's values by name would miss it. What a workflow says comes after this, and counts.
 */
import { app } from '../../scripts/app.js'

app.registerExtension({
  name: 'VLMConditioning.Seed',
  nodeCreated(node) {
    if (node.comfyClass !== 'VLMCRewrite') return
    const control = node.widgets?.find((widget) => widget.name === 'control_after_generate')
    if (control) control.value = 'fixed'
  },
})
