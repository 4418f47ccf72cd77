SELECT /* turn_files.references */ files.id, files.name, files.media_type, files.sha256
  FROM unnest(%(file_ids)s::uuid[]) WITH ORDINALITY AS wanted(id, place)
  JOIN files ON files.user_id = %(user_id)s AND files.id = wanted.id
 ORDER BY wanted.place
