// The console's page. It asks its own server for what is known every two seconds; the server asks the endpoint.
import { $, bytes, cells, clock, counted, duration, fill, make, number, rate, show, spark, text } from "./parts.js";

const POLL = 2000;
const LONGEST_PAUSE = 30000;
const REDRIVE_POLL = 400;

// The token is in the part of the URL that is sent to nobody. It leaves the address bar, and stays for a reload of this tab.
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem("token", given);
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem("token") ?? "";

const state = { overview: null, list: null, chosen: new Set(), at: 0, oldest: {}, job: null, keysOn: true, opened: null };

class Refused extends Error {}

async function ask(path, body) {
  const headers = { "X-Streamkit-Token": token };
  const request = body === undefined ? { headers } : { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, { ...request, cache: "no-store", credentials: "omit" });
  const said = await answer.json();
  if (!answer.ok) throw new Refused(said.error);
  return said;
}

/** Run what a person has asked for; what goes wrong is said where it is heard. */
async function doing(what) {
  try {
    return await what();
  } catch (error) {
    say(error instanceof Refused ? error.message : "The console does not answer: is `streamkit console` still running?");
    return undefined;
  }
}

function say(words) {
  text($("said"), words);
}

// Live.

let pause = POLL;
let timer = 0;

async function poll() {
  clearTimeout(timer);
  try {
    state.overview = await ask("/api/overview");
    pause = POLL;
    drawOverview(state.overview);
    drawSources(state.overview);
    isAway("");
  } catch (error) {
    pause = Math.min(LONGEST_PAUSE, pause * 2);
    isAway(error instanceof Refused ? error.message : `The console does not answer: is \`streamkit console\` still running? Next try in ${pause / 1000} s.`);
  }
  // Nobody looks at a tab that is hidden, and then nothing is asked for.
  if (!document.hidden) timer = setTimeout(poll, pause);
}

function isAway(why) {
  const live = $("live");
  live.classList.toggle("away", Boolean(why));
  text($("live-text"), why ? "not live" : `live, ${clock(state.overview.at)}`);
  show($("trouble"), Boolean(why));
  text($("trouble"), why);
  live.classList.remove("beat");
  if (!why) requestAnimationFrame(() => live.classList.add("beat"));
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) poll();
});

// The overview.

const sum = (values) => values.filter((one) => one !== null && one !== undefined).reduce((a, b) => a + b, 0);
const isDead = (queue) => queue.kind === "dead letters";

function drawOverview(view) {
  text($("endpoint"), view.endpoint);
  text($("cost"), `${number(view.calls_a_second)} requests a second to the endpoint, over the last ten seconds; eight at most.`);
  drawTiles(view);
  drawStreams(view);
  drawQueues(view);
  drawLedgers(view);
}

function drawTiles(view) {
  const open = view.streams.flatMap((one) => one.shards).filter((one) => one.is_open);
  const ages = view.readers.flatMap((one) => one.shards).map((one) => one.age).filter((one) => one !== null);
  const rates = open.map((one) => one.rate).filter(Boolean);
  const flying = view.runs.filter((one) => !one.is_stale).flatMap((one) => one.shards);
  const dead = view.queues.filter(isDead);
  const retries = view.queues.filter((one) => !isDead(one));
  const letters = sum(dead.map((one) => one.waiting)) + sum(dead.map((one) => one.in_flight));
  const parked = sum(view.ledgers.map((one) => one.count));
  const isKnown = (list) => list.some((one) => one.waiting !== null);
  const tiles = [
    ["open shards", number(open.length), counted(view.streams.length, "stream")],
    ["oldest age", ages.length ? duration(Math.max(...ages)) : "–", ages.length ? "of all readers" : view.readers.length ? "not known yet" : "name readers with --name"],
    ["arriving", rates.length ? rate(sum(rates.map((one) => one.records))) : "–", rates.length ? `${bytes(sum(rates.map((one) => one.bytes)))}/s` : "not known yet"],
    ["batches in flight", view.runs.length ? number(sum(flying.map((one) => one.in_flight))) : "–", view.runs.length ? counted(sum(flying.map((one) => one.in_flight_records)), "record") : "known of --run only"],
    ["in retry queues", isKnown(retries) ? number(sum(retries.map((one) => one.waiting + one.delayed))) : "–", isKnown(retries) ? `${number(sum(retries.map((one) => one.in_flight)))} in flight` : ""],
    ["dead letters", isKnown(dead) ? number(letters) : "–", counted(dead.length, "queue"), letters > 0],
    ["parked keys", view.ledgers.length ? number(parked) + (view.ledgers.some((one) => one.is_cut) ? " or more" : "") : "–", view.ledgers.length ? counted(sum(view.ledgers.map((one) => one.records)), "record") : "name them with --ledger and --name", parked > 0],
  ];
  fill(
    $("tiles"),
    tiles,
    ([name]) => name,
    ([name]) => make("div", {}, make("dt", {}, name), make("dd", {}, make("span"), make("small"))),
    (tile, [, value, more, isBad]) => {
      tile.classList.toggle("bad", Boolean(isBad));
      text(tile.querySelector("span"), value);
      text(tile.querySelector("small"), more);
    },
  );
}

function drawStreams(view) {
  const blank = view.streams.length ? [] : [{ name: "Streams", isBlank: true, shards: [], error: view.streams_error || "No stream yet." }];
  fill(
    $("streams"),
    [...blank, ...view.streams],
    (one) => one.name,
    (one) =>
      make("section", { class: "card", "aria-label": `Stream ${one.name}` },
        make("h2", {}, one.name, make("span", { class: "chip" })),
        make("p", { class: "note", hidden: true }),
        make("table", {}, make("thead", {}, make("tr")), make("tbody")),
        make("p", { class: "quiet small foot" })),
    (section, one) => drawStream(section, one, view),
  );
}

function drawStream(section, stream, view) {
  const readers = view.readers.filter((one) => one.stream === stream.name);
  const runs = view.runs.filter((one) => one.stream === stream.name);
  const problems = [stream.error, ...readers.map((one) => one.error), ...view.runs.filter((one) => one.error).map((one) => one.error)].filter(Boolean);
  const chip = section.querySelector(".chip");
  text(chip, stream.status ? `${stream.status.toLowerCase()}, ${stream.mode.toLowerCase().replace("_", " ")}, keeps ${stream.retention_hours} h` : "");
  show(chip, Boolean(stream.status));
  show(section.querySelector(".note"), problems.length > 0);
  text(section.querySelector(".note"), problems.join(" · "));
  show(section.querySelector("table"), stream.shards.length > 0);
  const header = ["shard", "state", "records/s", "bytes/s", "lately", "newest"].concat(readers.flatMap((one) => [`${one.name}: age`, "lately", "lease"]), ["in flight"]);
  fill(section.querySelector("thead tr"), header.map((name, n) => [n, name]), ([n, name]) => `${n} ${name}`, ([, name]) => make("th", { scope: "col", class: /\/s$|age$|newest/.test(name) ? "number" : null }, name), () => {});
  fill(section.querySelector("tbody"), stream.shards, (one) => one.shard_id, () => make("tr"), (row, shard) => {
    row.sparks ??= {};
    const about = shard.rate?.is_estimate ? "≈ " : "";
    row.sparks.rate = spark(row.sparks.rate, shard.history, "records a second", number);
    cells(row, [
      [shard.shard_id.replace(/^shardId-0*(?=\d)/, ""), "id"],
      [shard.is_open ? "open" : "closed", shard.is_open ? "good" : "quiet"],
      [shard.rate ? about + number(shard.rate.records) : "–", "number"],
      [shard.rate ? about + bytes(shard.rate.bytes) : "–", "number"],
      row.sparks.rate,
      [shard.newest ? `${duration(Math.max(0, view.at - shard.newest))} ago` : "–", "number"],
      ...readers.flatMap((reader) => readerCells(row, reader, shard)),
      flyingCell(runs, shard, view.at),
    ]);
    row.title = shard.shard_id;
  });
  text(section.querySelector(".foot"), footOf(stream, readers, runs));
}

function readerCells(row, reader, shard) {
  const mine = reader.shards.find((one) => one.shard_id === shard.shard_id);
  row.sparks[reader.name] = spark(row.sparks[reader.name], mine?.history ?? [], `age in seconds of ${reader.name}`, number);
  const age = mine?.has_ended ? "ended" : duration(mine?.age);
  const lease = mine?.is_held ? ["held", "good"] : mine?.is_held === false && !mine.has_ended && mine.checkpoint ? ["not renewed", "warn"] : ["–", "quiet"];
  return [[age, mine?.age > 60 ? "number bad" : "number"], row.sparks[reader.name], lease];
}

function flyingCell(runs, shard, now) {
  const all = runs.flatMap((run) => run.shards.filter((one) => one.shard_id === shard.shard_id).map((one) => [run, one]));
  if (!all.length) return ["–", "quiet"];
  return [all.map(([run, one]) => {
    if (run.is_stale) return `${run.reader}: no word for ${duration(run.seconds_old)}`;
    if (!one.in_flight) return one.state;
    return `${counted(one.in_flight, "batch", "batches")} of ${counted(one.in_flight_records, "record")}, ${duration(now - one.in_flight_since)}`;
  }).join("; "), all.some(([run]) => run.is_stale) ? "warn" : ""];
}

function footOf(stream, readers, runs) {
  if (stream.isBlank) return "";
  const parts = [];
  for (const run of runs) if (run.delivered !== null) parts.push(`${run.reader} (process ${run.pid}) is delivering ${rate(run.delivered)}.`);
  if (stream.shards.some((one) => one.rate?.is_estimate)) parts.push("≈ is an estimate from the first records of a look.");
  if (!readers.length) parts.push("Ages are of readers: name one with --name, as `streamkit lag` has it.");
  if (!runs.length) parts.push("Batches in flight are known of `streamkit run --status FILE` alone (--run FILE here); those of a function in Lambda are Lambda's.");
  return parts.join(" ");
}

function drawQueues(view) {
  const problems = [view.queues_error, ...view.queues.map((one) => one.error)].filter(Boolean);
  if (view.more_queues) problems.push("There are more queues than these: name those to show with --retry-queue and --dead-letters.");
  if (view.more_streams) problems.push("There are more streams than these: name those to show.");
  show($("queues-note"), problems.length > 0);
  text($("queues-note"), problems.join(" · "));
  fill($("queues").tBodies[0], view.queues, (one) => one.source, () => make("tr"), (row, queue) => {
    row.sparks ??= {};
    row.sparks.depth = spark(row.sparks.depth, queue.history, "messages", number);
    const oldest = state.oldest[queue.source];
    // What a queue is can come out later, by its own redrive policy or another's. A button that stays keeps the focus.
    const words = isDead(queue) ? null : queue.dead_letters ? `dead letters: ${queue.dead_letters}` : "";
    if (row.words !== words) row.go = words === null ? lookButton(queue) : document.createTextNode(words);
    row.words = words;
    cells(row, [
      queue.name,
      queue.kind,
      [number(queue.waiting), isDead(queue) && queue.waiting > 0 ? "number bad" : "number"],
      [number(queue.in_flight), "number"],
      [number(queue.delayed), "number"],
      [oldest ? duration(view.at - oldest) : "–", "number"],
      row.sparks.depth,
      row.go,
    ]);
  });
}

function lookButton(queue) {
  const button = make("button", { type: "button", "aria-label": `Read the dead letters of ${queue.name}` }, "Read");
  button.addEventListener("click", () => {
    choose("letters");
    $("source").value = queue.source;
    changeSource();
    $("look").focus();
  });
  return button;
}

function parkedWords(ledger) {
  if (ledger.count === null) return "not known yet";
  const words = `${counted(ledger.count, "key")}, ${counted(ledger.records, "record")}`;
  const oldest = ledger.count > ledger.keys.length ? `; the ${ledger.keys.length} oldest of them are shown` : "";
  return ledger.is_cut ? `at least ${words}${oldest}; \`streamkit parked\` has all` : words + oldest;
}

function drawLedgers(view) {
  const blank = view.ledgers.length ? [] : [{ table: "", processor: "", keys: [], error: "Name the ledger's table with --ledger, and its processors with --name." }];
  fill(
    $("ledgers"),
    [...blank, ...view.ledgers],
    (one) => `${one.table} ${one.processor}`,
    () => make("div", {}, make("p"), make("p", { class: "note", hidden: true }),
      make("table", {}, make("thead", {}, make("tr", {}, ...["group", "records", "oldest", "parked for", "tries", "runs again"].map((name, n) => make("th", { scope: "col", class: n ? "number" : null }, name)))), make("tbody"))),
    (part, one) => {
      const [title, note] = part.querySelectorAll("p");
      text(title, one.processor ? `${one.processor}: ${parkedWords(one)}` : "");
      show(title, Boolean(one.processor));
      show(note, Boolean(one.error));
      text(note, one.error);
      note.className = one.processor ? "note" : "quiet";
      show(part.querySelector("table"), one.keys.length > 0);
      fill(part.querySelector("tbody"), one.keys, (key) => key.group, () => make("tr"), (row, key) =>
        cells(row, [key.group, [number(key.records), "number"], [duration(key.oldest_age), key.oldest_age > 900 ? "number bad" : "number"], [duration(key.parked_for), "number"], [number(key.attempts), "number"], [key.not_before ? `in ${duration(Math.max(0, key.not_before - view.at))}` : "–", "number"]]));
    },
  );
}

// Views.

const TABS = ["overview", "letters"];

function choose(name, isByKeyboard = false) {
  for (const one of TABS) {
    const tab = $(`tab-${one}`);
    tab.setAttribute("aria-selected", String(one === name));
    tab.tabIndex = one === name ? 0 : -1;
    show($(one), one === name);
    if (one === name && isByKeyboard) tab.focus();
  }
}

TABS.forEach((name, n) => {
  $(`tab-${name}`).addEventListener("click", () => choose(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const to = { ArrowRight: n + 1, ArrowLeft: n - 1, Home: 0, End: TABS.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    choose(TABS[(to + TABS.length) % TABS.length], true);
  });
});

// Dead letters.

function drawSources(view) {
  const places = [...view.queues.filter(isDead).map((one) => [one.source, `${one.name} (${number(one.waiting)})`]), ...view.sources.map((one) => [one, one])];
  fill($("source"), places, ([value]) => value, ([value]) => make("option", { value }), (option, [, label]) => text(option, label));
  $("look").disabled = places.length === 0;
  if (!places.length) text($("looked"), "no queue of dead letters: name one with --dead-letters");
}

function changeSource() {
  state.chosen.clear();
  state.list = null;
  load(0);
}

$("source").addEventListener("change", changeSource);

$("choose").addEventListener("submit", (event) => {
  event.preventDefault();
  look();
});

async function look() {
  const source = $("source").value;
  if (!source || $("look").disabled) return;
  $("look").disabled = true;
  say("Looking at the letters…");
  state.chosen.clear();
  const done = await doing(() => ask("/api/look", { source }));
  $("look").disabled = false;
  if (!done) return;
  say(`${counted(done.all, "letter")} seen.`);
  await load(0);
}

const filters = () => Object.fromEntries(["error", "key", "processor", "since", "until"].map((name) => [name, $(`filter-${name}`).value.trim()]).filter(([, value]) => value));

$("filters").addEventListener("submit", (event) => {
  event.preventDefault();
  state.chosen.clear();
  load(0);
});

async function load(page) {
  const source = $("source").value;
  if (!source) return;
  const query = new URLSearchParams({ source, page, ...filters() });
  const list = await doing(() => ask(`/api/letters?${query}`));
  if (!list) return;
  state.list = list;
  state.at = 0;
  if (list.oldest) state.oldest[source] = list.oldest;
  drawList();
}

function drawList() {
  const list = state.list;
  const isLooked = list.looked_at !== null;
  text($("looked"), isLooked ? `looked at ${clock(list.looked_at)}` : "not looked at yet");
  const notes = [list.warning, list.is_cut ? `Only the first ${counted(list.all, "letter")} are here; \`streamkit dead-letters\` lists all.` : "", list.hidden ? `About ${number(list.hidden)} more stand behind others of their FIFO group.` : ""].filter(Boolean);
  show($("warning"), notes.length > 0);
  text($("warning"), notes.join(" "));
  text($("page"), isLooked ? `page ${list.page + 1} of ${list.pages}` : "");
  $("before").disabled = !isLooked || list.page === 0;
  $("after").disabled = !isLooked || list.page >= list.pages - 1;
  fill($("list").tBodies[0], list.letters, (one) => `${list.look} ${one.number}`, listRow, (row, one) => {
    row.checkbox.checked = state.chosen.has(one.number);
    row.setAttribute("aria-selected", String(state.chosen.has(one.number)));
    row.tabIndex = list.letters[state.at] === one ? 0 : -1;
  });
  drawChosen();
}

function listRow(letter) {
  const row = make("tr", { role: "row", "aria-selected": "false" });
  row.checkbox = make("input", { type: "checkbox", tabindex: -1, "aria-label": `Choose ${letter.event_id ?? "it"}`, disabled: letter.event_id === null });
  row.letter = letter;
  cells(row, ["", letter.failed_at ?? "–", letter.processor || "–", letter.partition_key ?? "–", letter.error || "no reason given", [letter.attempts === null ? "–" : number(letter.attempts), "number"], [number(letter.bytes), "number"]]);
  row.cells[0].replaceChildren(row.checkbox);
  for (const cell of row.cells) cell.setAttribute("role", "gridcell");
  row.checkbox.addEventListener("click", (event) => {
    event.stopPropagation();
    toggle(letter);
  });
  row.addEventListener("click", () => {
    moveTo(state.list.letters.indexOf(letter));
    open(letter);
  });
  return row;
}

function drawChosen() {
  const list = state.list;
  const many = state.chosen.size;
  text($("counts"), list.looked_at === null ? "" : `${counted(list.count, "letter")}${list.count === list.all ? "" : ` of ${number(list.all)}`}${many ? `, ${number(many)} chosen` : ""}`);
  $("redrive").disabled = !list.count;
}

function toggle(letter) {
  if (letter.event_id === null) return;
  if (!state.chosen.delete(letter.number)) state.chosen.add(letter.number);
  drawList();
}

function moveTo(place) {
  const rows = $("list").tBodies[0].rows;
  if (!rows.length) return;
  state.at = Math.max(0, Math.min(rows.length - 1, place));
  [...rows].forEach((row, n) => (row.tabIndex = n === state.at ? 0 : -1));
  rows[state.at].focus();
}

$("list").addEventListener("keydown", (event) => {
  const row = event.target.closest("tbody tr");
  if (!row || event.target.tagName === "INPUT") return;
  const to = { ArrowDown: state.at + 1, ArrowUp: state.at - 1, Home: 0, End: Infinity, PageDown: state.at + 10, PageUp: state.at - 10 }[event.key];
  if (to !== undefined) moveTo(to);
  else if (event.key === "Enter") open(row.letter);
  else if (event.key === " ") toggle(row.letter);
  else return;
  event.preventDefault();
});

$("before").addEventListener("click", () => turn(-1));
$("after").addEventListener("click", () => turn(1));

/** To another page of the list; there is no list before a look, nor while another source's is fetched. */
function turn(by) {
  const button = by < 0 ? $("before") : $("after");
  if (state.list && !button.disabled) load(state.list.page + by);
}

// One letter.

async function open(letter) {
  const whole = await doing(() => ask(`/api/letter?${new URLSearchParams({ look: state.list.look, number: letter.number })}`));
  if (!whole) return;
  state.opened = whole;
  text($("letter-title"), whole.event_id ?? "A message that can't be read");
  $("letter-fields").replaceChildren(...whole.fields.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, value)]));
  const failures = whole.failures.map((one) => make("li", {}, `${one.time}${one.attempt === null ? "" : `, attempt ${one.attempt}`}: ${one.message}`));
  $("letter-failures").replaceChildren(...(failures.length ? failures : [make("li", {}, whole.error || "no reason given")]));
  text($("letter-size"), bytes(whole.payload.size));
  const best = ["json", "text", "hex"].find((form) => whole.payload[form] !== null);
  for (const radio of document.getElementsByName("form")) {
    radio.disabled = whole.payload[radio.value] === null;
    radio.checked = radio.value === best;
  }
  text($("letter-payload"), whole.payload[best]);
  $("letter").showModal();
  $("letter-title").focus();
  $("letter").scrollTop = 0;
}

for (const radio of document.getElementsByName("form")) radio.addEventListener("change", () => text($("letter-payload"), state.opened.payload[radio.value]));
$("letter-close").addEventListener("click", () => $("letter").close());
$("letter").addEventListener("close", () => {
  // A payload is on the page only while its letter is open.
  state.opened = null;
  for (const part of ["letter-payload", "letter-fields", "letter-failures"]) $(part).replaceChildren();
  moveTo(state.at);
});

// The way back.

$("redrive").addEventListener("click", openRedrive);
$("progress").addEventListener("click", () => showJob(true));

function openRedrive() {
  if ($("redrive").disabled) return;
  const source = $("source").value;
  const view = state.overview;
  const queues = view.queues.filter((one) => one.source !== source && !isDead(one));
  fill($("going-target"), [...queues.map((one) => [`queue ${one.source}`, `queue ${one.name}`]), ...view.streams.map((one) => [`stream ${one.name}`, `stream ${one.name}: a new record, with a new event id`])], ([value]) => value, ([value]) => make("option", { value }), (option, [, label]) => text(option, label));
  const wanted = Object.entries(filters()).map(([name, value]) => `${name} ${value}`);
  text($("going-what"), state.chosen.size ? `The ${counted(state.chosen.size, "letter")} that you have chosen.` : wanted.length ? `All letters of this source with ${wanted.join(", ")}.` : "All letters of this source.");
  step("form");
  $("going").showModal();
  $("going-target").focus();
}

function step(name) {
  for (const [part, element] of [["form", "going-form"], ["ask", "going-ask"], ["run", "going-run"]]) show($(element), part === name);
}

$("going-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const [kind, target] = $("going-target").value.split(/ (.*)/s);
  const rateText = $("going-rate").value.trim();
  const chosen = [...state.chosen];
  const job = await doing(() => ask("/api/redrive", {
    source: $("source").value, kind, target, filters: chosen.length ? {} : filters(),
    look: chosen.length ? state.list.look : "", letters: chosen, rate: rateText ? Number(rateText) : null,
  }));
  if (!job) return showProblem($("said").textContent);
  state.job = job;
  showJob(true);
  follow();
});

function showProblem(words) {
  step("run");
  text($("going-state"), words);
  $("going-outcomes").tBodies[0].replaceChildren();
  show($("going-bar"), false);
  show($("going-stop"), false);
}

let following = 0;

async function follow() {
  clearTimeout(following);
  const before = state.job?.state;
  const job = await doing(() => ask("/api/redrive"));
  if (job?.job) {
    state.job = job;
    showJob(false, before);
    if (job.state === "done" || job.state === "failed") return;
  }
  following = setTimeout(follow, REDRIVE_POLL);
}

const isOver = (job) => job.state === "done" || job.state === "failed";

function showJob(isOpened, before) {
  const job = state.job;
  if (isOpened && !$("going").open) $("going").showModal();
  const words = wordsOf(job);
  show($("progress"), !isOver(job) || !$("going").open);
  text($("progress"), `${words.split("\n")[0]} Show`);
  if (job.state === "asking") {
    if (before !== "asking" || isOpened) {
      step("ask");
      text($("going-question"), job.question);
      if (!$("going").open) $("going").showModal();
      $("going-no").focus();
    }
    return;
  }
  step("run");
  text($("going-state"), words);
  const summary = job.summary;
  show($("going-bar"), job.state === "sending" || job.state === "looking");
  if (job.state === "sending" && summary?.to_put_back) {
    $("going-bar").max = summary.to_put_back;
    $("going-bar").value = summary.put_back;
  } else $("going-bar").removeAttribute("value");
  show($("going-stop"), !isOver(job));
  fill($("going-outcomes").tBodies[0], job.outcomes, ([name]) => name, () => make("tr"), (row, [name, outcome]) => cells(row, [name, [outcome, outcome.startsWith("put back") ? "good" : "bad"]]));
  show($("going-outcomes"), job.outcomes.length > 0);
  if (isOver(job) && before && !["done", "failed"].includes(before)) {
    say(words);
    if ($("going").open) $("going-run").querySelector(".close").focus();
  }
}

function wordsOf(job) {
  const done = job.summary;
  if (job.state === "failed") return `It ended early: ${job.error}${done ? ` Put back so far: ${number(done.put_back)}.` : ""}`;
  if (job.state === "looking") return job.note || "Looking at what would go…";
  if (job.state === "asking") return "Waiting for your answer.";
  if (job.state === "sending") return `Putting back: ${number(done.put_back)} of ${counted(done.to_put_back, "letter")}.`;
  const left = [];
  if (done.put_back_before) left.push(`${number(done.put_back_before)} were put back before, and are deleted only`);
  if (done.left) left.push(`${number(done.left)} stay, see below`);
  if (done.not_deleted) left.push(`${number(done.not_deleted)} could not be deleted: the next redrive does it`);
  if (done.hidden) left.push(`about ${number(done.hidden)} more stand behind others of their group: put back once more`);
  return [`Put back ${counted(done.put_back, "letter")} to ${job.target.split("/").at(-1)}.`, ...left.map((one) => `${one}.`), job.note].filter(Boolean).join(" ");
}

const answer = (yes) => doing(() => ask("/api/redrive/answer", { job: state.job.job, yes }));

$("going-yes").addEventListener("click", () => answer(true));
$("going-no").addEventListener("click", () => $("going").close());
$("going-stop").addEventListener("click", () => doing(() => ask("/api/redrive/stop", { job: state.job.job })));
$("going").addEventListener("close", async () => {
  if (state.job?.state === "asking") {
    await answer(false);
    say("Nothing was put back.");
  }
  if (state.job && isOver(state.job)) {
    show($("progress"), false);
    // What is seen here is not what lies there any more.
    if (state.job.summary?.put_back) say(`${wordsOf(state.job)} Look again to see what is left.`);
  }
  $("redrive").focus();
});

// Keys.

for (const button of document.querySelectorAll("dialog .close")) button.addEventListener("click", () => button.closest("dialog").close());
$("show-keys").addEventListener("click", () => $("keys").showModal());
$("keys-on").addEventListener("change", (event) => (state.keysOn = event.target.checked));

const KEYS = {
  "?": () => $("keys").showModal(),
  1: () => choose("overview", true),
  2: () => choose("letters", true),
};
const LETTER_KEYS = {
  l: look,
  r: openRedrive,
  "/": () => $("filter-error").focus(),
  "[": () => turn(-1),
  "]": () => turn(1),
  a: () => {
    const letters = (state.list?.letters ?? []).filter((one) => one.event_id !== null);
    const isAll = letters.every((one) => state.chosen.has(one.number));
    for (const one of letters) isAll ? state.chosen.delete(one.number) : state.chosen.add(one.number);
    if (state.list) drawList();
  },
};

/** Whether a key is one of the page, and not of a field or a dialog, nor the browser's. */
const isFree = (event) =>
  !event.defaultPrevented && !event.ctrlKey && !event.altKey && !event.metaKey && !document.querySelector("dialog[open]")
  && !event.target.closest("input:not([type=checkbox]):not([type=radio]), select, textarea");

// From anywhere else they come to the list; in it they move on.
document.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  if (!isFree(event) || event.shiftKey || $("letters").hidden || !$("list").tBodies[0].rows.length) return;
  event.preventDefault();
  moveTo(state.at);
});

document.addEventListener("keydown", (event) => {
  if (!state.keysOn || !isFree(event)) return;
  const run = KEYS[event.key] ?? ($("letters").hidden ? undefined : LETTER_KEYS[event.key]);
  if (!run) return;
  event.preventDefault();
  run();
});

// A redrive goes on though the page was loaded anew.
doing(async () => {
  const job = await ask("/api/redrive");
  if (job.job && !isOver(job)) {
    state.job = job;
    choose("letters");
    showJob(true);
    follow();
  }
});
poll();
