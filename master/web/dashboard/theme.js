// Light, dark, or as the system says; and the colours of the style sheet for what is drawn on a canvas.

const CHOICES = ["auto", "dark", "light"];
const system = matchMedia("(prefers-color-scheme: dark)");
const probe = document.createElement("span");
const watchers = [];

/** The colour that the style sheet gives this name now, as rgb(). */
export function colour(name) {
  probe.style.color = `var(--${name})`;
  return getComputedStyle(probe).color;
}

/** Calls `draw` now, and whenever colours change. */
export function painted(draw) {
  watchers.push(draw);
  draw();
}

export function theme(button) {
  probe.hidden = true;
  document.body.append(probe);
  let choice = CHOICES.indexOf(localStorage.getItem("theme") ?? "auto");
  const wear = () => {
    const name = CHOICES[choice];
    document.documentElement.dataset.theme = name;
    button.textContent = name;
    button.setAttribute("aria-label", `Theme: ${name}`);
    for (const draw of watchers) draw();
  };
  button.addEventListener("click", () => {
    choice = (choice + 1) % CHOICES.length;
    localStorage.setItem("theme", CHOICES[choice]);
    wear();
  });
  system.addEventListener("change", wear);
  wear();
}
