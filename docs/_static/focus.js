// What the theme leaves out for keyboards and screen readers: code, tables and pictures that scroll can be focused, headings of
// the navigation have a level, and its two landmarks have names.
function mark() {
  for (const caption of document.querySelectorAll("p.caption[role=heading]")) caption.setAttribute("aria-level", "2");
  document.querySelector(".sidebar-drawer")?.setAttribute("aria-label", "All pages");
  document.querySelector(".toc-drawer")?.setAttribute("aria-label", "On this page");
  for (const box of document.querySelectorAll("pre, .table-wrapper, .picture, div.math")) {
    if (box.scrollWidth > box.clientWidth && !box.hasAttribute("tabindex")) box.tabIndex = 0;
  }
}
addEventListener("DOMContentLoaded", mark);
addEventListener("resize", mark);
