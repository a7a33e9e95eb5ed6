"use strict";
const form = document.getElementById("form");
if (form) {
  const part = (id) => document.getElementById(id);
  const root = new URL(location.pathname.replace(/\/*$/, "/"), location.origin);
  let latest = 0;

  const show = (translation, others, problem) => {
    part("translation").textContent = translation;
    part("others").replaceChildren(...others.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
    part("more").hidden = others.length === 0;
    part("problem").textContent = problem;
  };

  const translate = async () => {
    const own = ++latest;
    const body = {
      q: part("text").value,
      source: form.dataset.source,
      target: form.dataset.target,
      alternatives: Number(part("alternatives").value),
    };
    part("state").textContent = "Translating…";
    let shown;
    try {
      const answer = await fetch(new URL("translate", root), {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(body),
      });
      const found = await answer.json().catch(() => ({ error: `the answer has status ${answer.status}` }));
      const id = answer.headers.get("X-Request-ID");
      shown = answer.ok
        ? [found.translatedText, found.alternatives || [], ""]
        : ["", [], `${found.error} (request ${id})`];
    } catch (error) {
      shown = ["", [], `The service does not answer: ${error.message}`];
    }
    if (own === latest) {
      part("state").textContent = "";
      show(...shown);
    }
  };

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    translate();
  });
  part("text").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      translate();
    }
  });
}
