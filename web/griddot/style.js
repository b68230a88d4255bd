/** How the panel and the large editor look. */

const STYLE = `
.griddot { display: flex; flex-direction: column; gap: 4px; box-sizing: border-box;
  min-height: 380px; width: 100%; font: 12px sans-serif; color: var(--input-text, #ddd); }
.griddot-stage { position: relative; flex: 1 1 0; min-height: 300px; overflow: hidden;
  border-radius: 6px; background: var(--comfy-input-bg, #222); cursor: crosshair;
  touch-action: none; outline: none; }
.griddot-stage:focus::after { content: ''; position: absolute; inset: 0; border-radius: 6px;
  box-shadow: inset 0 0 0 2px #4db4ff; pointer-events: none; }
.griddot-stage canvas { position: absolute; inset: 0; width: 100%; height: 100%;
  pointer-events: none; }
.griddot-row[hidden], .griddot label[hidden] { display: none; }
.griddot button[aria-pressed='true'] { border-color: #4db4ff; font-weight: bold; }
.griddot-row { display: flex; gap: 4px; align-items: end; flex: none; }
.griddot label { display: flex; flex-direction: column; flex: 1 1 0; min-width: 0; font-size: 11px;
  color: var(--input-text, #ddd); }
.griddot input { width: 100%; min-width: 0; box-sizing: border-box; height: 24px; padding: 0 4px;
  font: 12px sans-serif; color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222);
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; appearance: textfield; }
.griddot input::-webkit-inner-spin-button { display: none; }
.griddot button { height: 24px; min-width: 26px; padding: 0 4px; font: 13px sans-serif;
  color: var(--input-text, #ddd); background: var(--comfy-input-bg, #222); cursor: pointer;
  border: 1px solid var(--border-color, #4e4e4e); border-radius: 4px; }
.griddot button:disabled, .griddot input:disabled { opacity: 0.8; cursor: default; }
.griddot-status { flex: none; font-size: 11px; line-height: 14px; min-height: 14px;
  color: var(--input-text, #ddd); }
.griddot-wrong { padding-left: 5px; border-left: 3px solid var(--error-text, #ff6b5e); }
.griddot-menu { position: absolute; z-index: 1; display: flex; flex-direction: column; padding: 3px;
  background: var(--comfy-menu-bg, #353535); border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 4px; }
.griddot-menu button { text-align: left; border: none; background: none; }
.griddot-menu button:hover, .griddot-menu button:focus { background: var(--comfy-input-bg, #222); }
.griddot-top > :first-child { margin-right: auto; }
.griddot-large { width: 92vw; height: 92vh; max-width: none; max-height: none; margin: auto;
  padding: 10px; box-sizing: border-box; border: 1px solid var(--border-color, #4e4e4e);
  border-radius: 8px; background: var(--comfy-menu-bg, #353535); outline: none; }
.griddot-large[open] { display: flex; }
.griddot-large::backdrop { background: rgba(0, 0, 0, 0.6); }
.griddot-large .griddot { flex: 1 1 0; height: auto; min-width: 0; min-height: 0; }
.griddot-large .griddot-stage { min-height: 0; }
.griddot-large label { max-width: 120px; }
`

/** Gives the page the rules, once. */
export function addStyle() {
  if (document.getElementById('griddot-style')) return
  const style = document.createElement('style')
  style.id = 'griddot-style'
  style.append(STYLE)
  document.head.append(style)
}
