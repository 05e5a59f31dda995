"use strict";

// Everything from the server is set as text, never as HTML.
let before = null;

const element = (name, text, kind = "") => {
  const made = document.createElement(name);
  if (text instanceof Node) made.append(text); else made.textContent = text;
  made.className = kind;
  return made;
};

const count = number => number.toLocaleString("en");

const duration = seconds => {
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = Math.max(0, units.findIndex(([, length]) => seconds >= length));
  const last = seconds < 1 ? units.length : first + 2;
  let rest = Math.floor(seconds);
  return units.slice(seconds < 1 ? -1 : first, last).map(([unit, length]) => {
    const whole = Math.floor(rest / length);
    rest -= whole * length;
    return `${whole} ${unit}`;
  }).join(" ");
};

const milliseconds = seconds => {
  const time = seconds * 1000;
  return `${time < 10 ? time.toFixed(1) : count(Math.round(time))} ms`;
};

// Fills a table's body: each item is a row, and each column has a name, a value and a class.
const fill = (id, items, columns) => {
  const body = document.createElement("tbody");
  body.id = id;
  for (const item of items) {
    const row = body.insertRow();
    for (const [name, value, kind] of columns) {
      const cell = element("td", "", typeof kind === "function" ? kind(item) : kind);
      cell.dataset.column = name;
      cell.append(element("span", value(item)));
      row.append(cell);
    }
  }
  if (!items.length) {
    const cell = element("td", "none", "quiet");
    cell.colSpan = columns.length;
    body.insertRow().append(cell);
  }
  document.getElementById(id).replaceWith(body);
};

const instances = now => {
  if (!now) return "";
  const { in_use, idle, limit } = now;
  const meter = document.createElement("meter");
  Object.assign(meter, { max: limit, high: limit * 0.8, value: in_use });
  const both = element("span", meter, "nowrap");
  both.append(`${count(in_use)} of ${count(limit)}${idle ? `, ${count(idle)} idle` : ""}`);
  return both;
};

const show = status => {
  const now = performance.now() / 1000;
  // The first time, there is nothing to compare with. After a restart, the counters begin again.
  const rate = route => {
    const old = before?.status.routes.find(other => other.name === route.name);
    if (!old || route.requests < old.requests) return "–";
    return `${((route.requests - old.requests) / (now - before.now)).toFixed(1)} /s`;
  };
  document.getElementById("version").textContent = status.version;
  const summary = [
    ["Up", duration(status.uptime_seconds)],
    ["Connections", count(status.connections)],
    ["Routes", count(status.routes.length)],
    ["Reloads", count(status.reloads)],
    ["Failed reloads", count(status.failed_reloads), status.failed_reloads ? "bad" : ""],
  ];
  document.getElementById("summary").replaceChildren(...summary.map(([name, value, kind]) => {
    const pair = element("div", element("dt", name));
    pair.append(element("dd", value, kind));
    return pair;
  }));
  // A route, and below it its middleware, which has no requests of its own.
  const through = middleware => ({ ...middleware, name: `through ${middleware.name}`, kind: "http-wasm" });
  fill("routes", status.routes.flatMap(route => [route, ...route.middleware.map(through)]), [
    ["Route", route => route.name, route => route.middleware ? "name" : "quiet long"],
    ["Kind", route => route.kind],
    ["Engine", route => route.engine ?? ""],
    ["Instances in use", route => instances(route.instances)],
    ["Waiting", route => route.instances ? count(route.instances.waiting) : "",
      route => route.instances?.waiting ? "n warn" : "n"],
    ["Requests", route => route.middleware ? count(route.requests) : "", "n"],
    ["Rate", route => route.middleware ? rate(route) : "", "n"],
    ["Failures", route => route.middleware ? count(route.failures) : "", route => route.failures ? "n bad" : "n"],
    ["Compile time", route => route.engine ? milliseconds(route.compile_seconds) : "", "n"],
    ["Module or upstream", route => route.target ?? "", "long code"],
  ]);
  fill("failures", status.latest_failures, [
    ["Time (UTC)", failure => failure.time.replace("T", " ").replace("Z", ""), "nowrap code"],
    ["Route", failure => failure.route || "–", "name"],
    ["Status", failure => failure.status, failure => failure.status >= 500 ? "n bad" : "n"],
    ["Error", failure => failure.kind, "nowrap"],
    ["Message", failure => failure.message, "long"],
    ["Request", failure => failure.request, "long code"],
  ]);
  before = { now, status };
};

const refresh = async () => {
  const problem = document.getElementById("problem");
  try {
    const response = await fetch("status.json");
    if (!response.ok) throw new Error(`status ${response.status}`);
    show(await response.json());
    problem.hidden = true;
  } catch (error) {
    problem.textContent = `The server does not respond: ${error.message}`;
    problem.hidden = false;
  }
  setTimeout(refresh, 2000);
};

refresh();
