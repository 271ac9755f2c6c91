-- The tables of the incident, as Prisma would have made them: quoted camelCase, timestamps in UTC
-- without a time zone. `support_macros.embedding` takes any dimension, which is its fault.
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE public.workflow_insights (
    id          text PRIMARY KEY,
    "tenantId"  text NOT NULL,
    title       text NOT NULL,
    body        text,
    kind        text NOT NULL,
    source      text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL,
    "deletedAt" timestamp(3),
    embedding   vector(1536)
);
CREATE INDEX "workflow_insights_tenantId_createdAt_idx"
    ON public.workflow_insights ("tenantId", "createdAt");
CREATE TABLE public.support_macros (
    id          text PRIMARY KEY,
    "tenantId"  text NOT NULL,
    title       text NOT NULL,
    body        text,
    kind        text NOT NULL,
    source      text NOT NULL,
    "createdAt" timestamp(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "updatedAt" timestamp(3) NOT NULL,
    "deletedAt" timestamp(3),
    embedding   vector
);
