export default {
  title: "Example",
  url: "https://docs.example.com",
  baseUrl: "/",
  onBrokenLinks: "throw",
  i18n: { defaultLocale: "en", locales: ["en", "zh-CN"] },
  scripts: [{ src: "/prices.js", defer: true }],
  presets: [
    ["classic", { docs: { routeBasePath: "/" }, blog: false, theme: { customCss: "./src/css/custom.css" } }],
  ],
  themeConfig: {
    colorMode: { respectPrefersColorScheme: true },
    navbar: { title: "Example", items: [{ type: "localeDropdown", position: "right" }] },
  },
};
