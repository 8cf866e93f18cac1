// Widgets of a saved notebook, alive without a kernel: each anywidget's own module is run on its saved state. What a
// widget asks of its model is little: values, and word when one of them changes.
"use strict";

(() => {
  const read = (script) => JSON.parse(script.textContent);

  function makeModel(entry) {
    const values = { ...entry.state };
    for (const { path, data } of entry.buffers ?? []) {
      let place = values;
      for (const key of path.slice(0, -1)) place = place[key];
      place[path.at(-1)] = new DataView(Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0)).buffer);
    }
    const listeners = {};
    const tell = (event) => { for (const listener of [...(listeners[event] ?? [])]) listener(); };
    return {
      get: (name) => values[name],
      set(name, value) {
        if (values[name] === value) return;
        values[name] = value;
        tell("change:" + name);
        tell("change");
      },
      on: (event, listener) => { (listeners[event] ??= []).push(listener); },
      off(event, listener) {
        listeners[event] = listener ? (listeners[event] ?? []).filter((other) => other !== listener) : [];
      },
      save_changes() {},
      send() {},
    };
  }

  async function show(view, entry, model) {
    const el = document.createElement("div");
    el.className = "anywidget";
    view.after(el);
    if (entry.state._css) {
      const style = document.createElement("style");
      style.textContent = entry.state._css;
      el.before(style);
    }
    const address = URL.createObjectURL(new Blob([entry.state._esm], { type: "text/javascript" }));
    try {
      const module = await import(address);
      let widget = module.default ?? module;
      if (typeof widget === "function") widget = await widget();
      await widget.initialize?.({ model });
      await widget.render({ model, el });
    } finally {
      URL.revokeObjectURL(address);
    }
  }

  const saved = document.querySelector('script[type="application/vnd.jupyter.widget-state+json"]');
  if (!saved) return;
  const { state } = read(saved);
  const models = {}; // two views of one widget share its model, as they do in a notebook
  for (const view of document.querySelectorAll('script[type="application/vnd.jupyter.widget-view+json"]')) {
    const id = read(view).model_id;
    if (state[id]?.state?._esm) show(view, state[id], models[id] ??= makeModel(state[id]));
  }
})();
