"use strict";
// Draws the figures of the page. A colour "@name" is the style sheet's custom property --name, so that light and dark
// have one home; figures are drawn again when the reader's colour scheme changes.
(() => {
  const figures = JSON.parse(document.getElementById("figures").textContent);
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const narrow = window.matchMedia("(max-width: 560px)");
  const config = {
    responsive: true,
    displaylogo: false,
    displayModeBar: true, // the style sheet shows it on hover
    modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
  };

  const coloured = (value, key, styles) => {
    if (typeof value === "string" && key.endsWith("color") && value.startsWith("@")) {
      return styles.getPropertyValue("--" + value.slice(1)).trim();
    }
    if (Array.isArray(value)) return value.map((item) => coloured(item, key, styles));
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, coloured(item, name, styles)]));
    }
    return value;
  };

  const draw = () => {
    const styles = getComputedStyle(document.documentElement);
    for (const [id, figure] of Object.entries(figures)) {
      const frame = document.getElementById(id);
      const { data, layout: wide, narrow: small } = coloured(figure, "", styles);
      const layout = (narrow.matches && small) || wide;
      if (layout.height) frame.style.setProperty("height", `${layout.height}px`, "important");
      if (narrow.matches) {
        layout.margin = { ...layout.margin, l: 44, r: 8 };
        layout.font.size = 12;
      }
      if (!frame.classList.contains("drawn")) frame.replaceChildren();
      frame.classList.add("drawn");
      Plotly.react(frame, data, layout, config);
    }
  };

  draw();
  scheme.addEventListener("change", draw);
  narrow.addEventListener("change", draw);
})();
