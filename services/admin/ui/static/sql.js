// The page SQL: running by keyboard, names by click, and queries that are saved in this browser.
(() => {
  "use strict";

  const SAVED_MAX = 50;
  const editor = document.querySelector("[data-sql]");
  const card = document.getElementById("saved");
  const list = card.querySelector("[data-saved]");
  const store = `tallygate.queries.${card.dataset.owner}`;

  editor.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      editor.form.requestSubmit();
    }
  });

  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-insert]");
    if (!button) return;
    editor.setRangeText(button.dataset.insert, editor.selectionStart, editor.selectionEnd, "end");
    editor.focus();
  });

  function read() {
    try {
      const found = JSON.parse(localStorage.getItem(store) || "[]");
      return Array.isArray(found) ? found.filter((each) => each && typeof each.name === "string" && typeof each.query === "string") : [];
    } catch {
      return []; // what is there is none of ours, or the browser keeps nothing
    }
  }

  function write(queries) {
    try {
      localStorage.setItem(store, JSON.stringify(queries.slice(0, SAVED_MAX)));
    } catch {
      // A browser that keeps nothing goes without: the address of the page holds the query, too.
    }
    show();
  }

  function show() {
    list.replaceChildren(...read().map(({ name, query }) => {
      const line = document.createElement("li");
      const link = document.createElement("a");
      link.href = `/ui/sql?q=${encodeURIComponent(query)}`;
      link.textContent = name;
      link.title = query;
      const remove = document.createElement("button");
      remove.type = "button";
      remove.className = "quiet";
      remove.textContent = "Delete";
      remove.setAttribute("aria-label", `Delete the query ${name}`);
      remove.addEventListener("click", () => write(read().filter((each) => each.name !== name)));
      line.append(link, remove);
      return line;
    }));
  }

  card.querySelector("[data-save]").addEventListener("submit", (event) => {
    event.preventDefault();
    const field = document.getElementById("save-name");
    const name = field.value.trim();
    if (!name || !editor.value.trim()) return;
    write([{ name, query: editor.value.trim() }, ...read().filter((each) => each.name !== name)]);
    field.value = "";
  });

  card.hidden = false;
  show();
})();
