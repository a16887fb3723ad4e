// What the theme leaves out for readers with a keyboard or a screen reader: headings have a level, regions a name, and
// whatever scrolls sideways can be reached by Tab.
for (const caption of document.querySelectorAll(".caption[role=heading]")) caption.ariaLevel = "2";
for (const [selector, label] of [[".sidebar-drawer", "Site"], [".toc-drawer", "On this page"]]) {
  document.querySelector(selector)?.setAttribute("aria-label", label);
}
for (const tools of document.querySelectorAll(".content-icon-container")) {
  tools.setAttribute("role", "navigation");
  tools.ariaLabel = "Page tools";
}

function reach() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .picture, div.math")) {
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
  }
}

reach();
addEventListener("resize", reach);
for (const details of document.querySelectorAll("details")) details.addEventListener("toggle", reach);
