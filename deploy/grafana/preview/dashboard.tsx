// The dashboard as a page. What Grafana publishes as a library is Grafana's own: panels' frames, time series, big
// values, units, thresholds, value mappings, colours. State timelines are not in it and are drawn here, plainly.
import {
  createTheme,
  dateTime,
  FieldType,
  getDisplayProcessor,
  getFieldDisplayValues,
  getMinMaxAndDelta,
  toDataFrame,
  type DataFrame,
} from '@grafana/data';
import {BigValue, GlobalStyles, PanelChrome, ThemeContext, TimeSeries} from '@grafana/ui';
import {Fragment, useEffect, useState} from 'react';
import {createRoot} from 'react-dom/client';
import dashboard from '../dashboards/sluice.json';

const theme = createTheme({colors: {mode: 'dark'}});
const STEP = 5; // seconds, as Prometheus scrapes
const COLUMN = 60;
const ROW = 38;
const GAP = 8;
const minutes = Number(new URLSearchParams(location.search).get('minutes'));
const end = Math.floor(Date.now() / 1000 / STEP) * STEP;
const start = end - minutes * 60;
const raw = {from: dateTime(start * 1000), to: dateTime(end * 1000)};
const state = window as unknown as {pending: number; drawn: number; empty: string[]};

// What Grafana's panels add to a dashboard that leaves it out.
const DEFAULTS: Record<string, object> = {
  timeseries: {color: {mode: 'palette-classic'}},
  stat: {color: {mode: 'thresholds'}},
  'state-timeline': {color: {mode: 'thresholds'}},
};
const STAT = {justifyMode: 'auto', textMode: 'auto', colorMode: 'value', graphMode: 'area'};

const legend = (format: string, labels: Record<string, string>) =>
  format ? format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, label) => labels[label] ?? '') : 'Value';

async function framesOf(panel: any): Promise<DataFrame[]> {
  const frames: DataFrame[] = [];
  for (const {refId, expr, legendFormat} of panel.targets) {
    const query = expr.replaceAll('$__rate_interval', `${4 * STEP}s`).replace(/\$(model|worker)/g, '.*');
    const asked = new URLSearchParams({query, start: `${start}`, end: `${end}`, step: `${STEP}`});
    const reply = await (await fetch(`/api/v1/query_range?${asked}`)).json();
    if (reply.status !== 'success') throw new Error(`${panel.title} ${refId}: ${reply.error}`);
    for (const {metric, values} of reply.data.result) {
      const at = new Map<number, number>(values.map(([time, value]: [number, string]) => [time, Number(value)]));
      const times = Array.from({length: (end - start) / STEP + 1}, (_, step) => start + step * STEP);
      const config = {...DEFAULTS[panel.type], ...panel.fieldConfig.defaults, displayNameFromDS: legend(legendFormat, metric)};
      const value = (time: number) => (Number.isFinite(at.get(time)) ? at.get(time) : null);
      frames.push(
        toDataFrame({
          refId,
          fields: [
            {name: 'Time', type: FieldType.time, values: times.map((t) => t * 1000), config: {interval: STEP * 1000}},
            {name: 'Value', type: FieldType.number, values: times.map(value), labels: metric, config},
          ],
        })
      );
    }
  }
  frames.forEach((frame, seriesIndex) => {
    for (const field of frame.fields) {
      field.state = {seriesIndex, range: field.type === FieldType.number ? getMinMaxAndDelta(field) : undefined};
      field.display = getDisplayProcessor({field, theme});
    }
  });
  return frames;
}

function Timeline({frames, width, height}: {frames: DataFrame[]; width: number; height: number}) {
  const bar = Math.min(40, (height - 8) / frames.length - 8);
  return (
    <svg width={width} height={height} fontSize={12} fill={theme.colors.text.primary}>
      {frames.map((frame, row) => {
        const field = frame.fields[1];
        const top = 8 + row * (bar + 8);
        const wide = (width - 100) / field.values.length;
        const shown = field.values.map((value) => (value === null ? null : field.display!(value)));
        return (
          <Fragment key={row}>
            <text y={top + bar / 2 + 4}>{field.config.displayNameFromDS}</text>
            {shown.map((d, n) => d && <rect key={n} x={100 + n * wide} y={top} width={wide} height={bar} fill={d.color} opacity={0.7} />)}
            {shown.map((d, n) => d && d.text !== shown[n - 1]?.text && <text key={n} x={104 + n * wide} y={top + bar / 2 + 4}>{d.text}</text>)}
          </Fragment>
        );
      })}
    </svg>
  );
}

function Content({panel, frames, width, height}: {panel: any; frames: DataFrame[]; width: number; height: number}) {
  if (panel.type === 'state-timeline') return <Timeline frames={frames} width={width} height={height} />;
  if (panel.type === 'timeseries') {
    const range = {...raw, raw};
    return <TimeSeries frames={frames} width={width} height={height} timeRange={range} timeZone="utc" legend={panel.options.legend} options={panel.options} />;
  }
  const {reduceOptions, ...options} = {...STAT, ...panel.options};
  const fieldConfig = {...panel.fieldConfig, defaults: {...DEFAULTS.stat, ...panel.fieldConfig.defaults}};
  const [value] = getFieldDisplayValues({fieldConfig, reduceOptions, replaceVariables: (text) => text, theme, data: frames, sparkline: options.graphMode !== 'none'});
  return <BigValue {...options} width={width} height={height} theme={theme} value={{...value.display, title: ''}} sparkline={value.sparkline} count={1} />;
}

function Panel({panel}: {panel: any}) {
  const [frames, setFrames] = useState<DataFrame[]>();
  useEffect(() => {
    void framesOf(panel).then((found) => {
      setFrames(found);
      state.pending -= 1;
      state.drawn += 1;
      if (!found.some((frame) => frame.fields[1].values.some((value) => value !== null))) state.empty.push(panel.title);
    });
  }, []);
  const {x, y, w, h} = panel.gridPos;
  const [width, height] = [w * COLUMN - GAP, h * ROW - GAP];
  return (
    <div style={{position: 'absolute', left: x * COLUMN, top: y * ROW, width, height}}>
      <PanelChrome title={panel.title} description={panel.description} width={width} height={height}>
        {(inner, tall) => frames && <Content panel={panel} frames={frames} width={inner} height={tall} />}
      </PanelChrome>
    </div>
  );
}

const panels: any[] = dashboard.panels;
Object.assign(state, {pending: panels.filter(({type}) => type !== 'row').length, drawn: 0, empty: []});
createRoot(document.getElementById('root')!).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{position: 'relative', height: Math.max(...panels.map(({gridPos}) => gridPos.y + gridPos.h)) * ROW}}>
      {panels.map((panel) =>
        panel.type === 'row' ? (
          <h6 key={panel.id} style={{position: 'absolute', top: panel.gridPos.y * ROW + 10}}>{panel.title}</h6>
        ) : (
          <Panel key={panel.id} panel={panel} />
        )
      )}
    </div>
  </ThemeContext.Provider>
);
