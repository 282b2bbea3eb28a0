import { defineConfig } from "vitepress";

export default defineConfig({
  title: "Example",
  head: [
    ["script", { src: "/prices.js", defer: "" }],
    ["style", {}, "brivionix-prices { --bb-accent: var(--vp-c-brand-1); --bb-top: var(--vp-nav-height); }"],
  ],
  // Vue leaves the element to the browser.
  vue: { template: { compilerOptions: { isCustomElement: (tag) => tag === "brivionix-prices" } } },
  locales: { root: { label: "English", lang: "en" }, zh: { label: "简体中文", lang: "zh-CN" } },
});
