// Draws the dashboard from a Prometheus that has data, with a browser, into a PNG file.
//
//   npm install && npm run draw -- http://127.0.0.1:9090 dashboard.png [MINUTES]     CHROMIUM=... if it is elsewhere
import {readFile} from 'node:fs/promises';
import {createServer} from 'node:http';
import {build} from 'esbuild';
import {chromium} from 'playwright-core';

const [prometheus, picture, minutes = '15'] = process.argv.slice(2);
if (!picture) throw new Error('usage: npm run draw -- PROMETHEUS_URL FILE.png [MINUTES]');

const grafana = (name) => new URL(`node_modules/@grafana/${name}/dist/cjs/index.cjs`, import.meta.url).pathname;
const {outputFiles} = await build({
  entryPoints: [new URL('dashboard.tsx', import.meta.url).pathname],
  bundle: true,
  write: false,
  outdir: '/',
  jsx: 'automatic',
  logLevel: 'error',
  // The modules that 12.1 publishes for `import` lack names that they import from each other.
  alias: {'@grafana/ui': grafana('ui'), '@grafana/data': grafana('data')},
  loader: {'.svg': 'dataurl', '.ttf': 'dataurl', '.woff2': 'dataurl'},
  define: {'process.env.NODE_ENV': '"production"', global: 'window'},
});
const files = new Map(outputFiles.map((file) => [file.path, file.text]));
const TYPES = {css: 'css', js: 'javascript'};
const html = `<!doctype html><meta charset="utf-8"><link rel="stylesheet" href="/dashboard.css">
<style>body { margin: 8px; background: #111217; font-family: Inter, Roboto, sans-serif }</style>
<div id="root"></div><script src="/dashboard.js"></script>`;

const server = createServer(async (request, response) => {
  const {pathname, search} = new URL(request.url, prometheus);
  if (pathname.startsWith('/api/')) {
    response.setHeader('content-type', 'application/json');
    response.end(await (await fetch(prometheus + pathname + search)).text());
  } else if (pathname === '/' || files.has(pathname)) {
    response.setHeader('content-type', `text/${TYPES[pathname.split('.')[1]] ?? 'html'}`);
    response.end(files.get(pathname) ?? html);
  } else {
    response.writeHead(404).end();
  }
});
await new Promise((listening) => server.listen(0, '127.0.0.1', listening));

const browser = await chromium.launch({executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium', args: ['--no-sandbox']});
try {
  const page = await browser.newPage({viewport: {width: 1456, height: 900}});
  const errors = [];
  page.on('pageerror', (error) => errors.push(String(error)));
  await page.goto(`http://127.0.0.1:${server.address().port}/?minutes=${minutes}`);
  await page.waitForFunction('window.pending === 0', {timeout: 60_000});
  await page.waitForTimeout(1000);
  await page.screenshot({path: picture, fullPage: true});
  const {drawn, empty} = await page.evaluate('({drawn: window.drawn, empty: window.empty})');
  console.log(`${drawn} panels drawn in ${picture}; without data: ${empty.join(', ') || 'none'}`);
  if (errors.length) throw new Error(errors.join('\n'));
} finally {
  await browser.close();
  server.close();
}
