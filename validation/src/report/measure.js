// Run in a page that shows reports in frames: measures each as somebody would who looks at it. What it finds is left as
// text in the page.
const luminance = (colour) => {
  const [r, g, b] = colour.match(/[\d.]+/g).map(Number).map((part) => {
    const share = part / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const isClear = (colour) => colour === "transparent" || /, 0\)$/.test(colour);
const paper = (view, element) => {
  for (let at = element; at; at = at.parentElement) {
    const colour = view.getComputedStyle(at).backgroundColor;
    if (!isClear(colour)) return colour;
  }
  return "rgb(255, 255, 255)";
};
const measure = (frame) => {
  const page = frame.contentDocument, view = frame.contentWindow, wide = page.documentElement.clientWidth;
  const found = { frame: frame.title, width: wide, scroll: page.documentElement.scrollWidth, beyond: [], pale: [], small: [], texts: 0 };
  for (const element of page.body.querySelectorAll("*")) {
    const own = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
    if (!own.length) continue;
    const style = view.getComputedStyle(element), box = element.getBoundingClientRect();
    const words = own.map((node) => node.data.trim()).join(" ").slice(0, 40);
    const [front, back] = [luminance(style.color), luminance(paper(view, element))];
    const contrast = (Math.max(front, back) + 0.05) / (Math.min(front, back) + 0.05);
    found.texts += 1;
    if (contrast < 4.5) found.pale.push(`${contrast.toFixed(2)} ${style.color} ${words}`);
    if (parseFloat(style.fontSize) < 12) found.small.push(`${style.fontSize} ${words}`);
    if (box.right > wide + 1 || box.left < -1) found.beyond.push(`${box.left}..${box.right} ${words}`);
  }
  found.headings = [...page.querySelectorAll("h1,h2,h3,h4,h5,h6")].map((heading) => Number(heading.tagName[1]));
  found.first = page.body.innerText.trim().split("\n")[0];
  found.verdictEnds = page.querySelector("h1").getBoundingClientRect().bottom;
  found.landmarks = ["header", "main", "footer"].filter((name) => page.querySelectorAll(`body > ${name}`).length === 1);
  found.nameless = [...page.querySelectorAll("section")].filter((section) => !page.getElementById(section.getAttribute("aria-labelledby"))).length;
  found.headless = [...page.querySelectorAll("table th")].filter((head) => !head.scope).length;
  found.language = page.documentElement.lang;
  found.fetched = view.performance.getEntriesByType("resource").length;
  found.ink = view.getComputedStyle(page.body).color;
  found.paper = view.getComputedStyle(page.body).backgroundColor;
  return found;
};
onload = () => {
  const all = JSON.stringify([...document.querySelectorAll("iframe")].map(measure));
  document.body.replaceChildren(Object.assign(document.createElement("pre"), { id: "measured", textContent: all }));
};
