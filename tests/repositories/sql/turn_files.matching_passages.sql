WITH /* turn_files.matching_passages */ term AS (
    SELECT number, query::tsquery AS query FROM unnest(%(terms)s::text[]) WITH ORDINALITY AS term(query, number)),
total AS (
    SELECT count(*) AS passages FROM file_passages
     WHERE user_id = %(user_id)s AND file_id = ANY (%(file_ids)s::uuid[])),
hit AS (
    SELECT passage.file_id, passage.ordinal, ts_rank(passage.search, term.query) AS rank,
           count(*) OVER (PARTITION BY term.number) AS passages
      FROM term JOIN file_passages AS passage
        ON passage.user_id = %(user_id)s AND passage.file_id = ANY (%(file_ids)s::uuid[])
       AND passage.search @@ term.query),
best AS (
    SELECT hit.file_id, hit.ordinal,
           sum((1 + hit.rank) * ln(1 + (total.passages - hit.passages + 0.5) / (hit.passages + 0.5))) AS score
      FROM hit, total GROUP BY hit.file_id, hit.ordinal ORDER BY score DESC, hit.file_id, hit.ordinal
     LIMIT %(hits)s),
near AS (
    SELECT passage.file_id, passage.ordinal,
           max(CASE WHEN passage.ordinal = best.ordinal THEN best.score ELSE best.score / 2 END) AS score
      FROM best JOIN file_passages AS passage
        ON passage.user_id = %(user_id)s AND passage.file_id = best.file_id
       AND passage.ordinal BETWEEN best.ordinal - 1 AND best.ordinal + 1
     GROUP BY passage.file_id, passage.ordinal)
SELECT passage.file_id, passage.ordinal, passage.page, passage.content
  FROM near JOIN file_passages AS passage
    ON passage.user_id = %(user_id)s AND passage.file_id = near.file_id AND passage.ordinal = near.ordinal
 ORDER BY near.score DESC, passage.file_id, passage.ordinal
