// The element. It follows the language of the page around it; colours follow its color-scheme by the style sheet.
const STYLE_SHEET = new CSSStyleSheet();
STYLE_SHEET.replaceSync(STYLE);
class PriceTable extends HTMLElement {
  connectedCallback() {
    if (!this.shadowRoot) {
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [STYLE_SHEET];
      root.innerHTML = CONTENT;
      const data = JSON.parse(DATA_TEXT);
      data.initial.language = this.language();
      this.showLanguage = createView(this, root, data);
    }
    this.observer = new MutationObserver(() => this.showLanguage(this.language()));
    this.observer.observe(document, { attributes: true, attributeFilter: ["lang"], subtree: true });
    this.showLanguage(this.language());
  }
  disconnectedCallback() { this.observer.disconnect(); }
  language() {
    const element = this.closest("[lang]");
    return element && /^zh\b/i.test(element.lang) ? "zh_CN" : "en";
  }
}
if (!customElements.get("brivionix-prices")) customElements.define("brivionix-prices", PriceTable);
