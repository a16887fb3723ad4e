// What can be scrolled can be reached by keyboard: code, tables and pictures that are wider than the page.
function mark() {
  for (const box of document.querySelectorAll("pre, .table-wrapper, .picture, div.math")) {
    if (box.scrollWidth > box.clientWidth && !box.hasAttribute("tabindex")) box.tabIndex = 0;
  }
}
addEventListener("DOMContentLoaded", mark);
addEventListener("resize", mark);
