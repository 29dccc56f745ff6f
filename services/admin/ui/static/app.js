// What pages do without asking the server: copying, times that grow, the menu, the theme, dialogs.
(() => {
  "use strict";

  const THEME_COOKIE = "tallygate_theme";

  async function copyText(text) {
    if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }

  async function onCopy(button) {
    const target = button.dataset.copyFrom;
    const text = target ? document.querySelector(target).textContent : button.dataset.copy;
    await copyText(text);
    const said = button.dataset.said || "Copied";
    const dialog = button.closest("dialog");
    if (dialog) dialog.dataset.copied = "";
    button.classList.add("done");
    const title = button.title;
    button.title = said;
    if (button.dataset.word !== undefined) {
      button.dataset.word ||= button.textContent;
      button.dataset.label ||= button.getAttribute("aria-label") || "";
      button.textContent = said;
      // What is read out has the words that are seen.
      if (button.dataset.label) button.setAttribute("aria-label", said);
    }
    setTimeout(() => {
      button.classList.remove("done");
      button.title = title;
      if (button.dataset.word !== undefined) button.textContent = button.dataset.word;
      if (button.dataset.label) button.setAttribute("aria-label", button.dataset.label);
    }, 1500);
  }

  function agoText(passed) {
    const away = Math.abs(passed);
    if (away < 1) return "now";
    if (away >= 8 * 86400) return null;
    for (const [unit, name] of [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]]) {
      if (away >= unit) {
        const text = `${Math.floor(away / unit)} ${name}`;
        return passed > 0 ? `${text} ago` : `in ${text}`;
      }
    }
    return null;
  }

  function growTimes() {
    const now = Date.now();
    for (const element of document.querySelectorAll("time[data-ago]")) {
      const text = agoText((now - Date.parse(element.dateTime)) / 1000);
      if (text && element.textContent !== text) element.textContent = text;
    }
  }

  function isDark() {
    const chosen = document.documentElement.dataset.theme;
    return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }

  function changeTheme() {
    const theme = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = theme;
    document.cookie = `${THEME_COOKIE}=${theme}; path=/ui; max-age=31536000; samesite=strict`;
    document.dispatchEvent(new CustomEvent("tallygate:theme"));
  }

  // What asks again and again is paused by its button, and by itself while nobody looks.
  function pause(button) {
    const isPaused = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(isPaused));
    button.querySelector(".dot").classList.toggle("live", !isPaused);
    button.querySelector("[data-pause-word]").textContent = isPaused ? "Paused" : "Live";
  }
  document.addEventListener("htmx:beforeRequest", (event) => {
    const { id } = event.target;
    const isPolling = event.target.getAttribute("hx-trigger")?.startsWith("every");
    const button = id ? document.querySelector(`[data-pause="#${id}"]`) : null;
    if (isPolling && (document.hidden || button?.getAttribute("aria-pressed") === "true")) event.preventDefault();
  });
  // What is shown once is not lost by a slip: the first attempt to close warns where nothing was copied.
  function mayClose(dialog) {
    const warning = dialog.querySelector("[data-warning]");
    if (!warning || !warning.hidden || dialog.dataset.copied !== undefined) return true;
    warning.hidden = false;
    warning.scrollIntoView({ block: "nearest" });
    return false;
  }

  function closeDialog(dialog) {
    if (mayClose(dialog)) dialog.close();
  }

  document.addEventListener("click", (event) => {
    const target = event.target.closest("button, a");
    if (!target) return;
    if (target.matches("[data-copy], [data-copy-from]")) onCopy(target);
    else if (target.matches("[data-theme-button]")) changeTheme();
    else if (target.matches("[data-menu]")) {
      const isOpen = document.getElementById("menu").classList.toggle("open");
      target.setAttribute("aria-expanded", String(isOpen));
    } else if (target.matches("[data-pause]")) pause(target);
    else if (target.matches("[data-close]")) closeDialog(target.closest("dialog"));
  });

  // A form of filters is sent as soon as one of its choices changes; what is empty is left out.
  document.addEventListener("change", (event) => {
    const form = event.target.closest("form[data-filters]");
    if (form) form.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    if (!event.target.matches("form[data-filters]")) return;
    for (const field of event.target.elements) {
      if (field.name && field.value === "") field.disabled = true;
    }
  });
  window.addEventListener("pageshow", () => {
    for (const field of document.querySelectorAll("form[data-filters] :disabled")) field.disabled = false;
  });

  // A dialog that was fetched is shown; when it closes it is gone.
  document.addEventListener("htmx:afterSwap", (event) => {
    for (const dialog of event.target.querySelectorAll("dialog[data-open]:not([open])")) {
      dialog.addEventListener("cancel", (cancel) => { if (!mayClose(dialog)) cancel.preventDefault(); });
      dialog.addEventListener("close", () => {
        if (dialog.dataset.reload !== undefined) location.reload();
        else dialog.remove();
      });
      dialog.showModal();
    }
    growTimes();
  });
  document.addEventListener("htmx:sendError", () => {
    const flash = document.getElementById("flash");
    flash.replaceChildren();
    const alert = document.createElement("div");
    alert.className = "alert bad";
    alert.setAttribute("role", "alert");
    alert.textContent = "The gateway cannot be reached. What you see may be old.";
    flash.append(alert);
  });

  growTimes();
  setInterval(growTimes, 5000);
})();
