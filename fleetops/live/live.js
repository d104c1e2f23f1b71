"use strict";
// Keeps the page up to date: takes what the server sends, and asks again where the connection is lost.
(() => {
  const RETRY_MS = 2000;
  const live = document.getElementById("live");
  let { version, going } = JSON.parse(document.getElementById("live-data").textContent);
  const parser = new DOMParser();
  let updates = 0;

  function say(text, lost) {
    const state = document.getElementById("live-state");
    if (state.textContent !== text) {
      state.textContent = text;
    }
    live.classList.toggle("lost", lost);
  }

  // Makes one element like another, and leaves alone what is equal: so focus, selection and open details stay.
  function become(old, fresh) {
    for (const { name, value } of [...fresh.attributes]) {
      if (old.getAttribute(name) !== value) {
        old.setAttribute(name, value);
      }
    }
    const before = [...old.childNodes].filter((node) => node !== live && !isBlank(node));
    const after = [...fresh.childNodes].filter((node) => !isBlank(node));
    after.forEach((node, at) => {
      const one = before[at];
      if (!one) {
        old.append(document.importNode(node, true));
      } else if (one.nodeName !== node.nodeName) {
        one.replaceWith(document.importNode(node, true));
      } else if (one.nodeType === Node.TEXT_NODE) {
        if (one.data !== node.data) {
          one.data = node.data;
        }
      } else if (one.classList.contains("chart")) {
        one.style.height = node.style.height;
      } else if (one.nodeName !== "OUTPUT") {
        become(one, node);
      }
    });
    before.slice(after.length).forEach((node) => node.remove());
  }

  const isBlank = (node) => node.nodeType === Node.TEXT_NODE && !node.data.trim();

  function take({ pieces, rows }) {
    const charts = [];
    for (const [kind, at, value] of pieces) {
      if (kind === "chart") {
        charts.push([at, value]);
      } else if (kind === "section") {
        const section = document.querySelector(`section[aria-labelledby="part-${at}"]`);
        // The last section is the table of rows, which is told of them one by one.
        if (!section.querySelector("#rows")) {
          become(section, parser.parseFromString(value, "text/html").body.firstElementChild);
        }
      } else if (kind === "going") {
        going = value;
      } else {
        document.getElementById("lead").textContent = value;
      }
    }
    if (charts.length) {
      document.dispatchEvent(new CustomEvent("figures", { detail: charts }));
    }
    if (rows.length) {
      document.dispatchEvent(new CustomEvent("rows", { detail: rows }));
    }
    updates += 1;
    document.documentElement.dataset.updates = String(updates);
  }

  function sayHow() {
    say(going ? "This page follows the run." : "No process drives the run now; this page follows it when one does.", false);
  }

  function connect() {
    const source = new EventSource(`events?since=${version}`);
    source.onopen = sayHow;
    source.onmessage = (event) => {
      take(JSON.parse(event.data));
      version = event.lastEventId || version;
      sayHow();
      document.getElementById("live-at").textContent = `As of ${new Date().toISOString().slice(11, 19)} UTC.`;
    };
    source.addEventListener("trouble", (event) => say(JSON.parse(event.data), true));
    source.onerror = () => {
      say("The connection to fleetops is lost; this page shows what was last known, and goes on trying.", true);
      if (source.readyState === EventSource.CLOSED) {
        setTimeout(connect, RETRY_MS);
      }
    };
  }

  connect();
})();
