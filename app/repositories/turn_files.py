"""SQL of the files that a turn shows to the model: references, states of their texts, passages."""

from app.repositories.statement import Statement

# Those of these files that the user has, in the order of the ids.
REFERENCES = Statement(
    "turn_files.references",
    """
SELECT files.id, files.name, files.media_type, files.sha256
  FROM unnest(%(file_ids)s::uuid[]) WITH ORDINALITY AS wanted(id, place)
  JOIN files ON files.user_id = %(user_id)s AND files.id = wanted.id
 ORDER BY wanted.place""",
)

# These files, and the newest %(limit)s of the project, with the states of their texts. `state` is null for files whose
# type has no text.
FILES = Statement(
    "turn_files.files",
    """
WITH wanted AS (
    SELECT id FROM files WHERE user_id = %(user_id)s AND id = ANY (%(file_ids)s::uuid[])
    UNION
    (SELECT id FROM files WHERE user_id = %(user_id)s AND project_id = %(project_id)s ORDER BY id DESC
      LIMIT %(limit)s))
SELECT files.id, files.name, files.media_type, files.bytes, file_contents.object,
       file_texts.state, file_texts.characters
  FROM wanted
  JOIN files ON files.user_id = %(user_id)s AND files.id = wanted.id
  JOIN file_contents ON file_contents.user_id = files.user_id AND file_contents.sha256 = files.sha256
  LEFT JOIN file_texts ON file_texts.user_id = files.user_id AND file_texts.file_id = files.id
 ORDER BY files.id""",
)

# The first %(passages)s passages of each of these files.
FIRST_PASSAGES = Statement(
    "turn_files.first_passages",
    """
SELECT file_id, ordinal, page, content
  FROM file_passages
 WHERE user_id = %(user_id)s AND file_id = ANY (%(file_ids)s::uuid[]) AND ordinal <= %(passages)s
 ORDER BY ordinal, file_id LIMIT %(limit)s""",
)

# The passages that match best, and those before and after them, the best first. Each term counts by how rare it is
# (the inverse document frequency of BM25), because a question consists mostly of words that are everywhere.
MATCHING_PASSAGES = Statement(
    "turn_files.matching_passages",
    """
WITH term AS (
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
 ORDER BY near.score DESC, passage.file_id, passage.ordinal""",
)
