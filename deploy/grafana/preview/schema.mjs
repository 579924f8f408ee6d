// Checks the dashboard against the types that Grafana publishes: every key, value and enum of it and of its panels.
//
//   npm install && npm run schema
import {spawnSync} from 'node:child_process';
import {mkdtempSync, readFileSync, rmSync, writeFileSync} from 'node:fs';

const FILE = new URL('../dashboards/sluice.json', import.meta.url);
const RAW = '../node_modules/@grafana/schema/dist/types/raw';

const types = `
import type {Dashboard, DataSourceRef, FieldConfig, Panel, RowPanel} from '${RAW}/dashboard/x/dashboard_types.gen';
import type * as Stat from '${RAW}/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as Series from '${RAW}/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';
import type * as Timeline from '${RAW}/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';

// In JSON a member of a string enum is its value.
type Json<T> = T extends string ? \`\${T}\` : T extends Array<infer E> ? Array<Json<E>>
  : T extends object ? {[K in keyof T]: Json<T[K]>} : T;
type Query = {refId: string; expr: string; legendFormat?: string; datasource: DataSourceRef};
type Of<Type extends string, Options, Custom> = Omit<Panel, 'type' | 'options' | 'fieldConfig' | 'targets'> & {
  type: Type;
  options: Partial<Options>;
  targets: Query[];
  fieldConfig: {defaults: Omit<FieldConfig, 'custom'> & {custom?: Partial<Custom>}; overrides: unknown[]};
};
type Known = RowPanel | Of<'stat', Stat.Options, {}> | Of<'timeseries', Series.Options, Series.FieldConfig>
  | Of<'state-timeline', Timeline.Options, Timeline.FieldConfig>;
export const dashboard: Json<Omit<Dashboard, 'panels'> & {panels: Known[]}> = `;

const folder = mkdtempSync(new URL('check-', import.meta.url).pathname);
try {
  writeFileSync(`${folder}/dashboard.ts`, `${types}${readFileSync(FILE, 'utf8')};\n`);
  const flags = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'esnext'];
  const tsc = new URL('node_modules/typescript/bin/tsc', import.meta.url).pathname;
  const done = spawnSync(tsc, [...flags, '--moduleResolution', 'bundler', `${folder}/dashboard.ts`], {encoding: 'utf8'});
  process.stdout.write(done.stdout || 'The dashboard is what Grafana 12.1 describes.\n');
  process.exitCode = done.status;
} finally {
  rmSync(folder, {recursive: true});
}
