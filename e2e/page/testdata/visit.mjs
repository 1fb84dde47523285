// A visit to the audit page in Chromium. It asks the test for what it needs, a
// line of JSON each, and tells what each check found in the same way.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";

const { chromium } = createRequire(process.env.PAGE_MODULES + "/")("playwright-core");

const replies = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
async function ask(what) {
  say({ ask: what });
  return JSON.parse((await replies.next()).value);
}
async function check(name, look) {
  try {
    await look();
    say({ check: name, ok: true });
  } catch (error) {
    say({ check: name, ok: false, note: String(error.stack || error) });
  }
}
function equal(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}
function holds(ok, what) {
  if (!ok) throw new Error(what);
}

const url = await ask("url");
const origin = new URL(url).origin;
const hostile = await ask("hostile");

const netLog = process.env.PAGE_PROFILE + "/net.json";
const browser = await chromium.launchPersistentContext(process.env.PAGE_PROFILE + "/profile", {
  executablePath: process.env.PAGE_BROWSER,
  headless: true,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-proxy-server", "--disable-default-apps", "--disable-domain-reliability", "--no-pings", "--log-net-log=" + netLog,
    "--host-resolver-rules=MAP rebind.example 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost"],
  viewport: { width: 1280, height: 900 },
  colorScheme: "light",
  locale: "en-GB",
});
const isolated = browser.browser();

// What may not happen anywhere.
const requests = [];
const troubles = [];
let expected = /^$/; // messages that a check provokes
function watch(context) {
  context.on("request", (request) => requests.push(request.url()));
  context.on("page", watchPage);
  for (const page of context.pages()) watchPage(page);
}
function watchPage(page) {
  page.on("dialog", (dialog) => {
    troubles.push("dialog: " + dialog.message());
    dialog.dismiss();
  });
  page.on("pageerror", (error) => troubles.push("error: " + error));
  page.on("console", (message) => {
    if ((message.type() === "error" || message.type() === "warning") && !expected.test(message.text())) troubles.push("console: " + message.text());
  });
}
watch(browser);

const page = browser.pages()[0] || (await browser.newPage());
const text = (selector) => page.locator(selector).first().innerText();
const live = () => page.waitForSelector('[data-live-button][data-state="live"]');
const wide = () => page.evaluate(() => document.documentElement.scrollWidth <= document.documentElement.clientWidth);
const active = () => page.evaluate(() => document.activeElement.closest("tr")?.id || document.activeElement.id || document.activeElement.tagName);

await check("way in", async () => {
  const response = await page.goto(url);
  equal(response.status(), 200, "status");
  equal(page.url(), origin + "/", "the address without the token");
  const cookies = await browser.cookies();
  equal(cookies.map((c) => [c.httpOnly, c.sameSite, c.path]), [[true, "Strict", "/"]], "cookies");
  equal(await page.evaluate(() => document.cookie), "", "what scripts see of it");
  equal(await page.evaluate(() => document.referrer), "", "referrer");
});

await check("overview", async () => {
  const heading = await text("h1");
  holds(/attempts were refused, at \d+ destinations, by \d+ programs/.test(heading.replace(/\s+/g, " ")), heading);
  holds((await page.locator(".novel li").count()) > 3, "new destinations");
  holds((await page.locator(".chart rect.r").count()) > 5, "refused bars");
  holds((await page.locator(".chart rect.a").count()) > 5, "allowed bars");
  const boxes = await page.locator(".box").allInnerTexts();
  equal(boxes.length, 2, "sandboxes");
  for (const part of ["shop-api", "gpt-oss", "strix", "47.6", "4 h 38 min"]) holds(boxes.join("\n").includes(part), part + " in " + boxes.join("\n"));
  equal(await page.locator("#rows tbody tr").count(), 25, "latest events");
  holds(await wide(), "it scrolls sideways");
});

await check("pictures", async () => {
  await live();
  const shots = process.env.PAGE_SHOTS;
  await page.screenshot({ path: shots + "/page-light.png" });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: shots + "/page-dark.png" });
  await page.emulateMedia({ colorScheme: "light" });
  await page.setViewportSize({ width: 360, height: 780 });
  await page.screenshot({ path: shots + "/page-phone.png" });
});

await check("phone", async () => {
  await page.setViewportSize({ width: 360, height: 780 });
  const event = await page.locator("#rows [data-row]").first().getAttribute("href");
  for (const path of ["/", "/events", event, "/help"]) {
    await page.goto(origin + path);
    holds(await wide(), path + " scrolls sideways");
    const size = await page.evaluate(() => parseFloat(getComputedStyle(document.querySelector("main p")).fontSize));
    holds(size >= 13, `${path}: text of ${size}px`);
  }
  await page.setViewportSize({ width: 1280, height: 900 });
});

// contrast is the least one of any text with what lies behind it.
const contrast = () => {
  const channel = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
  const parse = (s) => {
    const m = s.match(/[\d.]+/g).map(Number);
    return { rgb: m.slice(0, 3).map((c) => c / 255), a: m.length > 3 ? m[3] : 1 };
  };
  const light = (rgb) => 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]);
  let worst = { ratio: 99 };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || !element.checkVisibility() || element.closest("svg, .unseen, .skip, dialog:not([open]), script, datalist, option")) continue;
    let back = element;
    while (back && parse(getComputedStyle(back).backgroundColor).a === 0) back = back.parentElement;
    const a = light(parse(getComputedStyle(element).color).rgb), b = light(parse(getComputedStyle(back || document.body).backgroundColor).rgb);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: node.data.trim().slice(0, 40) };
  }
  return worst;
};

for (const colorScheme of ["light", "dark"]) {
  await check("contrast " + colorScheme, async () => {
    await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
    for (const path of ["/", "/events", "/help"]) {
      await page.goto(origin + path);
      const worst = await page.evaluate(contrast);
      holds(worst.ratio >= 4.5, `${path}: ${worst.ratio.toFixed(2)} at ${worst.text}`);
    }
    await page.emulateMedia({ colorScheme: "light" });
  });
}

await check("events and filters", async () => {
  await page.goto(origin + "/events");
  const all = await page.locator("#rows tbody tr").count();
  equal(all, 100, "a page of events");
  await page.locator("a", { hasText: "Older" }).click();
  await page.waitForURL(/before=/);
  holds((await page.locator("#rows tbody tr").count()) > 10, "older events");
  await page.goto(origin + "/events");
  await page.fill("#f-process", "python*");
  await page.check("[name=denied]");
  await page.click("text=Filter");
  await page.waitForURL(/process=python/);
  const processes = await page.locator("#rows td.p").allInnerTexts();
  holds(processes.length > 10 && processes.every((p) => p.startsWith("python3(451)")), processes.join("; "));
  equal(await page.locator("#rows tr.is-allowed").count(), 0, "allowed ones among the refused");
  holds((await text(".pager code")).includes("gateway audit --since 24h --process 'python*' --denied"), await text(".pager code"));
  for (const [query, want] of [["host=*.sync.example", /sync\.example/], ["layer=packet", /udp/], ["project=handbook", /handbook/], ["q=install.sh", /get\.tool\.example/], ["new=1", /new/], ["allowed=1&host=docs.mirror.example", /docs\.mirror\.example/], ["since=2026-11-24T16:04&until=2026-11-24T16:05&denied=1", /203\.0\.113\.66/]]) {
    await page.goto(origin + "/events?" + query);
    const rows = await page.locator("#rows tbody tr").allInnerTexts();
    holds(rows.length > 0 && rows.every((r) => want.test(r) || /install|counting/.test(query)), query + ": " + rows.length + " rows: " + rows.slice(0, 3).join(" | "));
  }
  expected = /400 \(Bad Request\)/;
  equal((await page.goto(origin + "/events?since=never")).status(), 400, "a time that is none");
  expected = /^$/;
  await page.goto(origin + "/events?q=nothing-has-this");
  holds((await text("#rows")).includes("No event matches"), await text("#rows"));
  await page.goto(origin + "/");
  await page.locator(".panels .top a").first().click();
  await page.waitForURL(/host=/);
  holds((await page.locator("#rows tbody tr").count()) > 0, "a destination's events");
});

await check("one event", async () => {
  await page.goto(origin + "/events?process=git-remote-https");
  await page.locator("#rows [data-row]").first().click();
  await page.waitForURL(/\/events\/[0-9A-Z]{26}$/);
  const body = await text("main");
  for (const part of ["Refused", "api.git.example:443", "not on the allow list", "git-remote-https", "bash", "claude", "policy", 'host: "api.git.example"', "Before and after", "gateway audit show"]) {
    holds(body.includes(part), part + " is missing in:\n" + body);
  }
  holds(/^[0-9a-f]{64}$/.test(await text("main .hash")), "its hash");
  holds((await page.locator("tr.is-here").count()) === 1 && (await page.locator(".events tbody tr").count()) > 4, "its neighbours");
  await page.locator("[rel=prev]").click();
  holds((await page.locator("tr.is-here").count()) === 1, "the one before");
});

await check("keyboard", async () => {
  await page.goto(origin + "/events?denied=1");
  const ids = await page.locator("#rows tbody tr").evaluateAll((rows) => rows.map((r) => r.id));
  await page.keyboard.press("Tab");
  equal(await page.evaluate(() => document.activeElement.className), "skip", "the first stop");
  await page.keyboard.press("Enter");
  await page.keyboard.press("j");
  equal(await active(), ids[0], "j");
  await page.keyboard.press("ArrowDown");
  equal(await active(), ids[1], "down");
  await page.keyboard.press("k");
  equal(await active(), ids[0], "k");
  const outline = await page.evaluate(() => getComputedStyle(document.activeElement, "::after").outlineStyle);
  equal(outline, "solid", "the focus can be seen");
  await page.keyboard.press("j");
  await page.keyboard.press("Enter");
  await page.waitForURL(origin + "/events/" + ids[1].slice(2));
  await page.keyboard.press("Escape");
  await page.waitForURL(origin + "/events");
  await page.keyboard.press("/");
  equal(await active(), "find", "/");
  await page.keyboard.type("sync?jk");
  await page.keyboard.press("Escape");
  equal([await active(), await page.inputValue("#find")], ["BODY", ""], "Esc");
  await page.keyboard.press("?");
  holds(await page.locator("dialog[open]").isVisible(), "?");
  await page.keyboard.press("Escape");
  holds(!(await page.locator("dialog").isVisible()), "Esc closes it");
  await page.keyboard.press("/");
  await page.keyboard.type("sync.example");
  await page.keyboard.press("Enter");
  await page.waitForURL(/q=sync\.example/);
  await page.keyboard.press("Escape");
  await page.waitForURL(origin + "/events");
});

await check("live update", async () => {
  await page.goto(origin + "/");
  await live();
  const before = Number((await text("h1 strong")).replace(/\D/g, ""));
  const id = await ask("refuse");
  await page.waitForSelector(`#e-${id}`);
  equal(await page.locator("#rows tbody tr").first().getAttribute("id"), "e-" + id, "it comes first");
  await page.waitForFunction((n) => document.querySelector("h1 strong").textContent.replace(/\D/g, "") === String(n), before + 1);
  await page.waitForFunction(() => document.querySelector("[data-announce]").textContent.includes("refused"));
  // The same once more joins it: an open row.
  const repeat = await ask("refuse");
  await page.waitForSelector(`#e-${repeat} .open`);
  // Where the focus is it stays.
  await page.keyboard.press("j");
  const at = await active();
  const other = await ask("refuse other");
  await page.waitForSelector(`#e-${other}`);
  equal(await active(), at, "the focus");
  // A filter's page gets what the filter lets through.
  await page.goto(origin + "/events?denied=1");
  await live();
  const hidden = await ask("allow");
  const shown = await ask("refuse hostile");
  await page.waitForSelector(`#e-${shown}`);
  equal(await page.locator(`#e-${hidden}`).count(), 0, "what the filter leaves out");
  // Paused it stands still.
  await page.keyboard.press("p");
  await page.waitForSelector('[data-live-button][data-state="paused"]');
  const late = await ask("lose");
  await page.keyboard.press("p");
  await page.waitForSelector(`#e-${late}.is-lost`);
  await page.goto(origin + "/");
  holds((await text("#hero")).includes("17 more are known by their number only"), await text("#hero"));
});

await check("hostile name", async () => {
  const shown = hostile; // nothing in it is unprintable
  for (const path of ["/", "/events", "/events?q=" + encodeURIComponent(hostile), "/events?host=" + encodeURIComponent(hostile), "/events?process=" + encodeURIComponent(hostile) + "&project=" + encodeURIComponent(hostile)]) {
    await page.goto(origin + path);
    equal(await page.locator("main script, main img, main b, main i").count(), 0, path + ": elements made of it");
  }
  await page.goto(origin + "/events");
  const row = page.locator("#rows tr", { hasText: "onerror" }).first();
  holds((await row.innerText()).includes(shown), "it is not shown as it is: " + (await row.innerText()));
  await row.locator("[data-row]").click();
  await page.waitForURL(/\/events\/[0-9A-Z]{26}$/);
  holds((await text("h1")).includes(shown), await text("h1"));
  equal(await page.locator("main script, main img, main b").count(), 0, "elements made of it");
  equal(await page.locator("body > *").evaluateAll((all) => all.map((e) => e.localName)), ["a", "header", "p", "main", "footer", "dialog"], "the page's parts");
});

await check("metrics", async () => {
  const response = await page.request.get(origin + "/metrics");
  equal([response.status(), await response.text()], [200, "sallyport_up 1\n"], "metrics");
});

await check("without scripts", async () => {
  const context = await browserWith({ javaScriptEnabled: false });
  const plain = await context.newPage();
  await plain.goto(await ask("url"));
  holds((await plain.locator("#rows tbody tr").count()) === 25, "events");
  await plain.fill("#find", "sync.example");
  await plain.press("#find", "Enter");
  await plain.waitForURL(/q=sync\.example/);
  holds((await plain.locator("#rows tbody tr").count()) > 5, "the search");
  await plain.locator("#rows [data-row]").first().click({ position: { x: 5, y: 5 } });
  await plain.waitForURL(/\/events\/[0-9A-Z]{26}$/);
  await plain.click("text=Help");
  await plain.waitForURL(origin + "/help");
  await context.close();
});

async function browserWith(options) {
  const context = await isolated.newContext(options);
  watch(context);
  return context;
}

await check("not let in", async () => {
  expected = /status of 403/;
  const link = await ask("url");
  const used = await browserWith({});
  await (await used.newPage()).goto(link);
  for (const [name, address] of [["wrong", origin + "/?token=" + "A".repeat(43)], ["reused", link], ["missing", origin + "/"], ["missing", origin + "/events"], ["missing", origin + "/stream"], ["missing", origin + "/metrics"]]) {
    const context = await browserWith({});
    const stranger = await context.newPage();
    const response = await stranger.goto(address);
    const body = await stranger.locator("body").innerText();
    equal(response.status(), 403, name);
    holds(body.includes("gateway audit --web") && body.includes("gateway status") && !body.includes("shop-api"), name + ": " + body);
    equal((await context.cookies()).length, 0, name + ": cookies");
    await context.close();
  }
  const again = await used.newPage();
  equal((await again.goto(link)).status(), 403, "reused where it was used");
  await again.click("text=open the page");
  holds((await again.locator("h1").innerText()).includes("refused"), "the session goes on");
  await used.close();
  expected = /^$/;
});

await check("wrong Host", async () => {
  const rebound = origin.replace("127.0.0.1", "rebind.example");
  const context = await browserWith({});
  const stranger = await context.newPage();
  const link = await ask("url");
  expected = /status of 403|Cross-Origin-Opener-Policy|Refused to apply style/;
  for (const address of [rebound + "/", link.replace(origin, rebound), rebound + "/style.css"]) {
    equal((await stranger.goto(address)).status(), 403, address);
  }
  equal((await context.cookies()).length, 0, "cookies");
  await context.close();
  expected = /^$/;
});

await check("another site", async () => {
  // A page of another origin: a name of its own for the same port.
  const context = await browserWith({});
  const stranger = await context.newPage();
  await context.route("http://rebind.example:1/", (route) => route.fulfill({ contentType: "text/html", body: `<a href="${origin}/events">go</a><iframe src="${origin}/help"></iframe>` }));
  await stranger.goto(await ask("url"));
  expected = /status of 403|Refused to|blocked|net::ERR/;
  await stranger.goto("http://rebind.example:1/");
  const outcome = await stranger.evaluate((to) => fetch(to, { credentials: "include" }).then(() => "read", () => "not read"), origin + "/events");
  equal(outcome, "not read", "fetch");
  await stranger.click("text=go");
  await stranger.waitForURL(origin + "/events");
  holds((await stranger.locator("body").innerText()).includes("You are not let in"), "a link");
  await stranger.click("text=Open the page from here");
  holds((await stranger.locator("h1").innerText()).includes("refused"), "from here on");
  await context.close();
  expected = /^$/;
});

await check("end of the session", async () => {
  await page.goto(origin + "/");
  await live();
  const second = await browser.newPage();
  await second.goto(origin + "/help");
  await second.click("text=End this session");
  await second.waitForURL(origin + "/logout");
  holds((await second.locator("h1").innerText()).includes("The session has ended"), "it says so");
  equal((await browser.cookies()).length, 0, "cookies");
  await page.waitForSelector('[data-live-button][data-state="off"]');
  expected = /status of 403/;
  equal((await page.reload()).status(), 403, "afterwards");
  expected = /^$/;
});

await check("no trouble", () => equal(troubles, [], "dialogs, errors, violations"));

const own = new RegExp("^http://(127\\.0\\.0\\.1|localhost|rebind\\.example):");
await check("no other host", () => {
  holds(requests.length > 100, requests.length + " requests");
  equal(requests.filter((r) => !own.test(r) && !r.startsWith("data:")), [], "requests to others");
});

await browser.close();
await isolated?.close();

await check("no other host by the browser's own log", () => {
  const log = JSON.parse(readFileSync(netLog, "utf8"));
  const asked = log.events.map((e) => e.params || {}).filter((p) => p.url && p.initiator);
  // What the browser does for itself (updates, autofill) no page has initiated.
  const byPages = asked.filter((p) => /^https?:/.test(p.initiator)).map((p) => p.url);
  holds(byPages.length > 50, byPages.length + " of " + asked.length + " requests in the log: " + JSON.stringify(asked.slice(0, 5)));
  equal([...new Set(byPages.filter((u) => !own.test(u)))], [], "requests to others");
});

say({ done: true });
process.exit(0); // standard input is still open
