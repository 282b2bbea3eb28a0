start();
// In a frame, the page reports its height to the page around it, and nothing else.
if (parent !== window) {
  const reportHeight = () => parent.postMessage({ type: "brivionix-billing:height", height: Math.ceil(document.body.getBoundingClientRect().height) }, "*");
  new ResizeObserver(reportHeight).observe(document.body);
}
